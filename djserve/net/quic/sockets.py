"""UDP sockets for HTTP/3, beside the listening ones of TCP. Knows no event loop."""

from __future__ import annotations

import logging
import socket
import struct
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from djserve.errors import ListenError
from djserve.system import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("djserve.net")

# Bytes that the kernel keeps for a busy loop, if it allows as much.
_BUFFER_SIZE = 4 * 1024 * 1024

# Linux's option (udp(7)): one call sends datagrams of this size, the last may be
# shorter. The kernel takes 64 of them, and no more bytes than one datagram may have.
_UDP_SEGMENT = 103
_MOST_SEGMENTS = 64
_LONGEST_RUN = 65000

_Datagrams = list[tuple[bytes, Any]]

# Longer than any that a path carries whole (1,500 bytes); of what is longer the rest is
# lost, and so is the packet. One of 64 KB could be full of frames of one byte or three,
# which cost some microseconds each: 80 ms, and there are many in a turn of the loop.
LONGEST_DATAGRAM = 2048

# Linux's option (ip(7)): the address that a datagram came to, or is to come from.
_IP_PKTINFO = 8
_OPTION_SPACE = 128
_SIZES = {socket.IPPROTO_IP: 4, socket.IPPROTO_IPV6: 16}
_WILDCARDS = ("0.0.0.0", "::")


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
            # Linux gives what it allows; macOS refuses what is more (ENOBUFS).
            with suppress(OSError):
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


class DatagramSocket:
    """Receive and send datagrams on a socket, which stays its owner's.

    What the kernel has no room for is lost. Several of one size for one peer go out by
    one call, if the system can do that.

    On a socket of all addresses, a peer's address has one element more, in hexadecimal:
    the address of this machine that it has asked. The answers come from that one.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._joins = _can_join(sock)
        self._level, self._kind = _ask_for_addresses(sock)
        self.receive: Callable[[], tuple[bytes, Any]] = partial(
            sock.recvfrom, LONGEST_DATAGRAM
        )
        """Return a datagram, and the peer's address. Raises OSError."""
        if self._kind:
            self.receive = self._receive_with_address

    def find_own_address(self, peer: Any) -> tuple[str, int]:
        """Return the address of this machine that a peer has asked."""
        host, port = self._sock.getsockname()[:2]
        if self._kind:
            packed = bytes.fromhex(peer[-1])
            host = socket.inet_ntop(self._sock.family, packed[: _SIZES[self._level]])
        return host, port

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
        is_run = stop > start + 1
        if not (is_run or self._kind):
            self._sock.sendto(data, address)
            return
        options: list[tuple[int, int, bytes]] = []
        if self._kind:
            *peer, own = address
            options.append((self._level, self._kind, self._pack(own)))
            address = tuple(peer)
        if is_run:
            size = struct.pack("=H", len(data))
            options.append((socket.IPPROTO_UDP, _UDP_SEGMENT, size))
        parts = [data for data, _ in datagrams[start:stop]]
        self._sock.sendmsg(parts, options, 0, address)

    def _receive_with_address(self) -> tuple[bytes, Any]:
        data, options, _, address = self._sock.recvmsg(LONGEST_DATAGRAM, _OPTION_SPACE)
        for level, kind, value in options:
            if (level, kind) == (self._level, self._kind):
                return data, (*address, self._unpack(value).hex())
        raise BlockingIOError("the kernel does not say what was asked")

    def _unpack(self, value: bytes) -> bytes:
        if self._level == socket.IPPROTO_IP:
            # An interface, the local address, and that of the packet.
            return value[4:8]
        # A link's addresses are known on that link alone.
        is_of_link = value[0] == 0xFE and value[1] & 0xC0 == 0x80
        return value if is_of_link else value[:16] + bytes(4)

    def _pack(self, own: str) -> bytes:
        packed = bytes.fromhex(own)
        if self._level == socket.IPPROTO_IP:
            return bytes(4) + packed + bytes(4)
        return packed


def _ask_for_addresses(sock: socket.socket) -> tuple[int, int]:
    """Have the kernel say which address was asked; return its option, (0, 0) for none.

    An answer from another address, which the kernel would choose, is not taken.
    """
    host = sock.getsockname()[0]
    if host not in _WILDCARDS or SYSTEM != "linux" or not hasattr(sock, "recvmsg"):
        return 0, 0
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO
    sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    return socket.IPPROTO_IP, _IP_PKTINFO


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
    if not hasattr(sock, "sendmsg"):
        return False
    try:
        sock.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, 0)
    except OSError:
        return False
    return True
