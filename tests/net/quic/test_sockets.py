"""UDP sockets beside listening ones: alone, and shared."""

from __future__ import annotations

import os
import select
import socket
from typing import NoReturn

import pytest

from djserve.errors import ListenError
from djserve.net.quic.sockets import (
    LONGEST_DATAGRAM,
    DatagramSocket,
    adopt_datagram_socket,
    check_address,
    find_run,
    open_datagram_socket,
)

pytestmark = pytest.mark.e2e


def test_address_in_use_is_told() -> None:
    with open_datagram_socket("127.0.0.1:0") as sock:
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        for is_shared in (False, True):
            with pytest.raises(ListenError, match="UDP"):
                check_address(address, is_shared=is_shared)


def test_shared_address_has_several_sockets() -> None:
    with open_datagram_socket("127.0.0.1:0", is_shared=True) as sock:
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        with open_datagram_socket(address, is_shared=True) as other:
            assert other.getsockname() == sock.getsockname()
            with pytest.raises(ListenError, match="UDP"):
                check_address(address, is_shared=False)


def test_ipv6_is_by_itself() -> None:
    try:
        sock = open_datagram_socket("[::1]:0")
    except ListenError:
        pytest.skip("This machine has no IPv6")
    with sock:
        assert sock.family == socket.AF_INET6
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        open_datagram_socket(f"127.0.0.1:{sock.getsockname()[1]}").close()


def test_descriptor_is_taken_over() -> None:
    with open_datagram_socket("127.0.0.1:0") as sock:
        number = os.dup(sock.fileno())
        os.set_blocking(number, True)
        with adopt_datagram_socket(number) as adopted:
            assert adopted.getsockname() == sock.getsockname()
            assert not adopted.getblocking()
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(number)


def test_rest_of_a_long_datagram_is_lost() -> None:
    with (
        open_datagram_socket("127.0.0.1:0") as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        for size in (60_000, 1200):
            peer.sendto(b"x" * size, sock.getsockname())
        datagrams = DatagramSocket(sock)
        sizes = [len(datagrams.receive()[0]) for _ in range(2)]

    assert sizes == [LONGEST_DATAGRAM, 1200]


A, B = ("127.0.0.1", 1), ("127.0.0.1", 2)


@pytest.mark.parametrize(
    ("sizes", "ends"),
    [
        ([1200], [1]),
        ([1200, 1200, 1200], [3]),
        # Only the last may be shorter.
        ([1200, 1200, 30, 30, 30, 1200], [3, 5, 6]),
        ([30, 1200, 1200], [1, 3]),
        ([1200] * 60, [54, 60]),
        ([30] * 100, [64, 100]),
        ([0, 0], [1, 2]),
        ([40000, 40000], [1, 2]),
        ([65507, 10], [1, 2]),
    ],
)
def test_runs_have_one_size(sizes: list[int], ends: list[int]) -> None:
    datagrams = [(bytes(size), A) for size in sizes]
    found = [0]
    while found[-1] < len(datagrams):
        found.append(find_run(datagrams, found[-1]))

    assert found[1:] == ends


def test_runs_have_one_peer() -> None:
    datagrams = [(b"12", A), (b"12", A), (b"12", B), (b"1", A)]

    assert find_run(datagrams, 0) == 2
    assert find_run(datagrams, 2) == 3


def receive_all(sock: socket.socket, count: int) -> list[bytes]:
    sock.settimeout(120)
    return [sock.recv(65536) for _ in range(count)]


@pytest.mark.parametrize("joins", [True, False])
def test_datagrams_come_as_they_were_sent(joins: bool) -> None:
    sent = [bytes([number]) * size for number, size in enumerate([1200] * 40 + [7, 9])]
    with open_datagram_socket("127.0.0.1:0") as sock, open_peer() as peer:
        sender = DatagramSocket(sock)
        sender._joins = sender._joins and joins
        sender.send([(data, peer.getsockname()) for data in sent])

        assert receive_all(peer, len(sent)) == sent


def open_peer() -> socket.socket:
    return open_datagram_socket("127.0.0.1:0")


class Refusing:
    """A socket of an interface that sends no runs (``refused``), or nothing at all."""

    def __init__(self, *, is_full: bool = False) -> None:
        self.sent: list[bytes] = []
        self._is_full = is_full

    def setsockopt(self, *option: int) -> None: ...
    def recvfrom(self, size: int) -> None: ...
    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 1

    def sendmsg(self, *message: object) -> None:
        raise OSError(5, "Input/output error")

    def sendto(self, data: bytes, address: object) -> None:
        if self._is_full:
            raise BlockingIOError
        if address == B:
            raise OSError(101, "Network is unreachable")
        self.sent.append(data)


def test_interface_that_cannot_gets_each_by_itself() -> None:
    sock = Refusing()
    sender = DatagramSocket(sock)  # type: ignore[arg-type]
    sender.send([(b"12", A), (b"34", A), (b"56", B), (b"78", A)])
    sender.send([(b"90", A)])

    assert sock.sent == [b"12", b"34", b"78", b"90"]


def test_what_has_no_room_is_lost() -> None:
    sock = Refusing(is_full=True)
    DatagramSocket(sock).send([(b"1", A), (b"12", A)])  # type: ignore[arg-type]

    assert sock.sent == []


@pytest.mark.parametrize("address", ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"])
def test_system_without_sendmsg_sends_each_by_itself(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def miss(sock: object) -> NoReturn:
        raise AttributeError("as on Windows")

    for name in ("sendmsg", "recvmsg"):
        monkeypatch.setattr(socket.socket, name, property(miss))
    host = "::1" if address.startswith("[") else "127.0.0.1"
    with (
        open_datagram_socket(address) as sock,
        open_datagram_socket(f"[{host}]:0" if ":" in host else f"{host}:0") as peer,
    ):
        server = DatagramSocket(sock)
        peer.sendto(b"to it", (host, sock.getsockname()[1]))
        sock.settimeout(120)
        data, client = server.receive()
        server.send([(b"12", client), (b"34", client)])

        assert data == b"to it"
        assert receive_all(peer, 2) == [b"12", b"34"]


@pytest.mark.parametrize(
    ("wildcard", "asked"), [("0.0.0.0", "127.0.0.2"), ("[::]", "::1")]
)
@pytest.mark.parametrize("count", [1, 3])
def test_answer_comes_from_the_address_that_was_asked(
    wildcard: str, asked: str, count: int
) -> None:
    with open_datagram_socket(f"{wildcard}:0") as sock:
        port = sock.getsockname()[1]
        datagrams = DatagramSocket(sock)
        with socket.socket(sock.family, socket.SOCK_DGRAM) as peer:
            # It takes nothing from any other address.
            connect_or_skip(peer, asked, port)
            peer.send(b"question")
            select.select([sock], [], [], 120)
            data, address = datagrams.receive()
            assert data == b"question"
            assert address[:-1] == peer.getsockname()
            assert datagrams.find_own_address(address) == (asked, port)
            answers = [bytes([number]) * 9 for number in range(count)]
            datagrams.send([(answer, address) for answer in answers])
            assert receive_all(peer, count) == answers


def connect_or_skip(sock: socket.socket, host: str, port: int) -> None:
    try:
        sock.connect((host, port))
    except OSError:
        pytest.skip(f"This machine has no {host}")


def test_own_address_of_a_socket_of_one() -> None:
    with open_datagram_socket("127.0.0.1:0") as sock:
        own = DatagramSocket(sock).find_own_address(("127.0.0.9", 5))

        assert own == sock.getsockname()
