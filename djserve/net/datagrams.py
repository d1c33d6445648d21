"""Datagrams to a receiver that may be away: nothing is ever waited for at length."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING

from djserve.net.address import TCPAddress, UnixAddress, parse_address

if TYPE_CHECKING:
    from collections.abc import Iterable

# Seconds that a unix socket's receiver may leave its queue full.
SEND_TIMEOUT = 1.0


class DatagramReceiver:
    """Where datagrams go, by ``host:port`` or ``unix:/path``.

    Names are looked up again for each ``open``, in the calling thread.
    """

    def __init__(self, address: str) -> None:
        self._address = parse_address(address)

    def open(self) -> closing[socket.socket]:
        """Return a socket to the receiver, to be closed soon. Raises OSError."""
        match self._address:
            case UnixAddress(path):
                return closing(_connect(socket.AF_UNIX, path))
            case TCPAddress(host, port):
                infos = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
                family, _, _, _, place = infos[0]
                return closing(_connect(family, place))
            case other:
                raise ValueError(f"datagrams cannot be sent to {other}")


def _connect(family: int, place: object) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.settimeout(SEND_TIMEOUT)
        sock.connect(place)  # type: ignore[arg-type]
    except BaseException:
        sock.close()
        raise
    return sock


def send_all(sock: socket.socket, datagrams: Iterable[bytes]) -> OSError | None:
    """Send datagrams; return what went wrong, if anything did.

    A port without a listener refuses some: the rest is sent all the same.
    A receiver that leaves its queue full gets no more.
    """
    problem: OSError | None = None
    for data in datagrams:
        try:
            sock.send(data)
        except TimeoutError as error:
            return error
        except OSError as error:
            problem = error
    # On one machine, what the last one has met with is known at once.
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return OSError(code, os.strerror(code)) if code else problem
