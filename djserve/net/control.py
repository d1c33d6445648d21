"""The control socket: where ``manage.py djserve`` finds the supervisor.

A unix socket that its owner alone may open. Each connection is a ``Channel``. Datagrams
to the service manager (sd_notify) are sent from here, too.
"""

from __future__ import annotations

import socket
import time

from djserve.errors import ConfigError
from djserve.net.address import UnixAddress
from djserve.net.channel import Channel, Message
from djserve.net.sockets import open_sockets, socket_inode, unlink_socket

_BACKLOG = 16


class ControlListener:
    """Accept control connections; the file goes with the listener."""

    def __init__(self, path: str) -> None:
        address = UnixAddress(path)
        (self._sock,) = open_sockets(address, backlog=_BACKLOG, mode=0o600)
        self._path = path
        self._inode = socket_inode(self._sock)

    def fileno(self) -> int:
        """Return the socket's descriptor, for selectors."""
        return self._sock.fileno()

    def accept(self) -> Channel | None:
        """Return the next connection, None if there is none after all."""
        try:
            connection, _ = self._sock.accept()
        except OSError:
            return None
        return Channel(connection, is_guest=True)

    def close(self) -> None:
        """Close the socket and remove its file, unless it is another server's now."""
        self._sock.close()
        if self._inode is not None:
            unlink_socket(self._path, self._inode)


def ask(path: str, request: Message, timeout: float) -> Message:
    """Send one request to a control socket and return the answer.

    Raises ConfigError if no supervisor answers there in time.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(path)
        except OSError as error:
            reason = error.strerror or str(error)
            problem = f"No supervisor answers at {path!r}: {reason}"
            raise ConfigError([problem]) from error
        channel = Channel(sock)
        try:
            channel.send(request)
            return _wait_for_answer(channel, path, timeout)
        finally:
            channel.close()


def _wait_for_answer(channel: Channel, path: str, timeout: float) -> Message:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            messages = channel.receive()
        except EOFError:
            break
        if messages:
            return messages[0]
        channel.flush()
        time.sleep(0.01)
    raise ConfigError([f"The supervisor at {path!r} did not answer"])


def send_datagram(address: str, text: str) -> None:
    """Send ``text`` to a unix datagram socket; "@" begins an abstract name.

    A service manager that is gone is not the server's trouble: nothing is raised.
    """
    name = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.setblocking(False)
            sock.sendto(text.encode(), name)
        except OSError:
            return
