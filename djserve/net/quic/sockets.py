"""UDP sockets for HTTP/3, beside the listening ones of TCP. Knows no event loop."""

from __future__ import annotations

import logging
import socket
import struct
from typing import Any

from djserve.errors import ListenError

logger = logging.getLogger("djserve.net")

# Bytes that the kernel keeps for a busy loop, if it allows as much.
_BUFFER_SIZE = 4 * 1024 * 1024

# Linux's option (udp(7)): one call sends datagrams of this size, the last may be
# shorter. The kernel takes 64 of them, and no more bytes than one datagram may have.
_UDP_SEGMENT = 103
_MOST_SEGMENTS = 64
_LONGEST_RUN = 65000

_Datagrams = list[tuple[bytes, Any]]


def open_datagram_socket(address: str, *, is_shared: bool = False) -> socket.socket:
    """Bind a UDP socket beside a listening one ("127.0.0.1:8443"). Raises ListenError.

    The address is what ``net.sockets.socket_address`` says of that. If all of them are
    ``is_shared``, several may be bound to one address: each client's datagrams then
    come to one of them, which the kernel chooses.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_SIZE)
        sock.setblocking(False)
        sock.bind((host, int(port)))
    except OSError as error:
        sock.close()
        raise ListenError(
            f"{address} (UDP, for HTTP/3)", error.strerror or str(error)
        ) from error
    return sock


def adopt_datagram_socket(number: int) -> socket.socket:
    """Return the socket of a descriptor that another process has sent."""
    sock = socket.socket(fileno=number)
    sock.setblocking(False)
    return sock


def check_address(address: str, *, is_shared: bool) -> None:
    """Raise ListenError unless a UDP socket can be bound to an address."""
    open_datagram_socket(address, is_shared=is_shared).close()


class DatagramSender:
    """Send datagrams on a socket. What the kernel has no room for is lost.

    Several of one size for one peer go out by one call, if the system can do that.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._joins = _can_join(sock)

    def send(self, datagrams: _Datagrams) -> None:
        """Send datagrams, in order."""
        start, count = 0, len(datagrams)
        while start < count:
            stop = find_run(datagrams, start) if self._joins else start + 1
            try:
                self._send_run(datagrams, start, stop)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if stop - start > 1:
                    # An interface that cannot: each by itself from now on.
                    self._joins = False
                    continue
                address = datagrams[start][1]
                logger.debug("A datagram to %s cannot be sent: %s", address, error)
            start = stop

    def _send_run(self, datagrams: _Datagrams, start: int, stop: int) -> None:
        data, address = datagrams[start]
        if stop == start + 1:
            self._sock.sendto(data, address)
            return
        size = struct.pack("=H", len(data))
        self._sock.sendmsg(
            [data for data, _ in datagrams[start:stop]],
            [(socket.IPPROTO_UDP, _UDP_SEGMENT, size)],
            0,
            address,
        )


def find_run(datagrams: _Datagrams, start: int) -> int:
    """Return the end of the datagrams that one call may send from ``start`` on."""
    first, address = datagrams[start]
    size = len(first)
    if not size:
        return start + 1
    limit = min(len(datagrams), start + _MOST_SEGMENTS, start + _LONGEST_RUN // size)
    for index in range(start + 1, limit):
        data, other = datagrams[index]
        if len(data) != size or other != address:
            is_shorter = len(data) < size and other == address
            return index + is_shorter
    return max(limit, start + 1)


def _can_join(sock: socket.socket) -> bool:
    try:
        sock.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, 0)
    except OSError:
        return False
    return True
