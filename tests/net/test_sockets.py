from __future__ import annotations

import asyncio
import os
import select
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from djserve.errors import ListenError
from djserve.net import sockets
from djserve.net.address import (
    Address,
    EndpointAddress,
    FDAddress,
    TCPAddress,
    UnixAddress,
    parse_address,
)
from djserve.net.main_loop import new_event_loop
from djserve.net.sockets import (
    BUFFER_LIMIT,
    UNSENT_LIMIT,
    has_input,
    open_sockets,
    reset_connection,
    shorten_queues,
    socket_address,
    socket_inode,
    unlink_socket,
)
from djserve.testing.transport import MemoryTransport

pytestmark = pytest.mark.e2e


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def open_one(opened: ExitStack, address: Address) -> socket.socket:
    (sock,) = open_sockets(address, backlog=5)
    return opened.enter_context(sock)


def test_tcp_socket_listens_on_a_port_of_the_kernels_choice(opened: ExitStack) -> None:
    sock = open_one(opened, TCPAddress("127.0.0.1", 0))

    socket.create_connection(sock.getsockname(), 1).close()
    assert socket_address(sock) == f"127.0.0.1:{sock.getsockname()[1]}"
    assert sock.getblocking() is False


def test_port_can_be_bound_again_after_connections(opened: ExitStack) -> None:
    sock = open_one(opened, TCPAddress("127.0.0.1", 0))
    port = sock.getsockname()[1]
    client = opened.enter_context(socket.create_connection(("127.0.0.1", port), 60))
    sock.setblocking(True)
    # The side that closes first keeps the port in TIME_WAIT.
    sock.accept()[0].close()
    client.recv(1)
    client.close()
    sock.close()

    assert open_one(opened, TCPAddress("127.0.0.1", port)).getsockname()[1] == port


@pytest.mark.usefixtures("require_ipv6")
def test_all_interfaces_are_both_families_on_one_port(opened: ExitStack) -> None:
    sockets = open_sockets(TCPAddress("", 0), backlog=5)
    for sock in sockets:
        opened.enter_context(sock)

    assert {sock.family for sock in sockets} == {socket.AF_INET, socket.AF_INET6}
    assert len({sock.getsockname()[1] for sock in sockets}) == 1


@pytest.mark.usefixtures("require_ipv6")
def test_ipv6_socket_takes_no_ipv4_clients(opened: ExitStack) -> None:
    sock = open_one(opened, TCPAddress("::", 0))

    assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("192.0.2.1:8000", "not an address of this machine"),
        ("name.invalid:8000", "cannot be resolved"),
        (f"{'a' * 70}.example:80", "cannot be resolved"),
        ("unix:/missing/djserve.sock", "directory does not exist"),
        (f"unix:/tmp/{'a' * 200}", "too long"),
        ("unix:/etc/hostname/x.sock", "not a directory"),
        ("fd://999", "not an open descriptor"),
    ],
)
def test_unusable_address_is_a_listen_error(text: str, reason: str) -> None:
    with pytest.raises(ListenError, match=reason) as caught:
        open_sockets(parse_address(text), backlog=5)

    assert caught.value.address == text


def test_port_in_use_is_a_listen_error_with_a_hint(opened: ExitStack) -> None:
    port = open_one(opened, TCPAddress("127.0.0.1", 0)).getsockname()[1]

    with pytest.raises(ListenError, match="in use") as caught:
        open_sockets(TCPAddress("127.0.0.1", port), backlog=5)

    assert caught.value.hint


@pytest.mark.usefixtures("require_ipv6")
def test_no_socket_stays_open_where_one_of_several_fails(opened: ExitStack) -> None:
    taken = open_one(opened, TCPAddress("::", 0))
    port = taken.getsockname()[1]

    with pytest.raises(ListenError, match="in use"):
        open_sockets(TCPAddress("", port), backlog=5)

    assert open_one(opened, TCPAddress("0.0.0.0", port)).getsockname()[1] == port


@pytest.fixture
def unprivileged() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.usefixtures("unprivileged")
def test_low_port_without_privileges_is_a_listen_error() -> None:
    with pytest.raises(ListenError, match="Ports below 1024 need privileges"):
        open_sockets(TCPAddress("127.0.0.1", 1), backlog=5)


def test_unix_socket_listens_for_everybody(opened: ExitStack, tmp_path: Path) -> None:
    path = tmp_path / "s"
    sock = open_one(opened, UnixAddress(str(path)))

    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert socket_address(sock) == f"unix:{path}"


def test_stale_unix_socket_is_replaced(opened: ExitStack, tmp_path: Path) -> None:
    address = UnixAddress(str(tmp_path / "s"))
    open_one(opened, address).close()

    open_one(opened, address)

    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address.path)


def test_live_unix_socket_is_a_listen_error(opened: ExitStack, tmp_path: Path) -> None:
    address = UnixAddress(str(tmp_path / "s"))
    live = open_one(opened, address)

    with pytest.raises(ListenError, match="another server listens"):
        open_sockets(address, backlog=5)

    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address.path)
        connection, _ = live.accept()
        connection.close()


def test_file_in_place_of_a_unix_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")

    with pytest.raises(ListenError, match="not a socket"):
        open_sockets(UnixAddress(str(path)), backlog=5)

    assert path.read_text() == "precious"


def test_own_unix_socket_is_unlinked(opened: ExitStack, tmp_path: Path) -> None:
    path = tmp_path / "s"
    inode = socket_inode(open_one(opened, UnixAddress(str(path))))
    assert inode

    unlink_socket(str(path), inode)

    assert not path.exists()


def test_unix_socket_of_a_successor_is_not_unlinked(
    opened: ExitStack, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    first = open_one(opened, UnixAddress(str(path)))
    inode = socket_inode(first)
    assert inode
    path.rename(tmp_path / "old")
    open_one(opened, UnixAddress(str(path)))

    unlink_socket(str(path), inode)

    assert path.exists()


@pytest.mark.usefixtures("require_ipv6")
def test_listening_descriptor_is_adopted_as_a_duplicate(opened: ExitStack) -> None:
    inherited = open_one(opened, TCPAddress("::1", 0))

    adopted = open_one(opened, FDAddress(inherited.fileno()))

    assert adopted.family == socket.AF_INET6
    assert adopted.getsockname() == inherited.getsockname()
    assert adopted.fileno() != inherited.fileno()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(socket.SOCK_STREAM, "does not listen"), (socket.SOCK_DGRAM, "not a stream")],
    ids=["idle", "datagram"],
)
def test_other_socket_is_not_adopted(kind: socket.SocketKind, reason: str) -> None:
    with (
        socket.socket(socket.AF_INET, kind) as sock,
        pytest.raises(ListenError, match=reason),
    ):
        open_sockets(FDAddress(sock.fileno()), backlog=5)


def test_file_is_not_adopted(tmp_path: Path) -> None:
    with (
        (tmp_path / "file").open("w") as file,
        pytest.raises(ListenError, match="not a socket"),
    ):
        open_sockets(FDAddress(file.fileno()), backlog=5)


def test_endpoint_string_is_not_opened_here() -> None:
    with pytest.raises(ValueError, match="reactor"):
        open_sockets(EndpointAddress("tcp:80"), backlog=5)


@pytest.mark.parametrize("prefer_uvloop", [True, False], ids=["uvloop", "asyncio"])
def test_reset_leaves_nothing_in_the_kernel(
    opened: ExitStack, prefer_uvloop: bool
) -> None:
    listening = open_one(opened, TCPAddress("127.0.0.1", 0))
    peer = opened.enter_context(socket.create_connection(listening.getsockname()))
    ours, _ = listening.accept()
    loop = new_event_loop(prefer_uvloop=prefer_uvloop)

    async def fill_and_reset() -> None:
        transport: Any
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
        # The kernel takes a part, which an abort alone leaves with it.
        transport.write(bytes(32 * 1024 * 1024))
        reset_connection(transport)

    loop.run_until_complete(fill_and_reset())
    poll = select.poll()
    poll.register(peer.fileno(), 0)
    for _ in range(60_000):
        # The loop closes the socket in one of its next turns.
        if poll.poll(0):
            break
        loop.run_until_complete(asyncio.sleep(0.001))
    with pytest.raises(ConnectionResetError):
        while peer.recv(65536):
            pass
    loop.close()


def test_reset_of_another_transport_aborts_it() -> None:
    transport = MemoryTransport()
    reset_connection(transport)

    assert transport.is_aborted


class Pair:
    """A connection on a loop that does not turn, and its peer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        ours, self.peer = socket.socketpair()
        self.transport: Any = loop.run_until_complete(
            loop.connect_accepted_socket(asyncio.Protocol, ours)
        )[0]


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    loop = new_event_loop(prefer_uvloop=request.param)
    pair = Pair(loop)
    yield pair
    pair.peer.close()
    pair.transport.abort()
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()


def test_silent_peer_has_sent_nothing(pair: Pair) -> None:
    assert not has_input(pair.transport)


def test_bytes_are_seen_before_the_loop_reads_them(pair: Pair) -> None:
    pair.peer.sendall(b"a")

    assert has_input(pair.transport)


def test_end_of_the_peer_is_seen(pair: Pair) -> None:
    pair.peer.shutdown(socket.SHUT_WR)

    assert has_input(pair.transport)


def test_other_transports_tell_nothing() -> None:
    assert not has_input(MemoryTransport())


async def _connect(family: str) -> tuple[asyncio.Transport, socket.socket]:
    if family == "unix":
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
    loop = asyncio.get_running_loop()
    transport, _protocol = await loop.connect_accepted_socket(asyncio.Protocol, ours)
    return transport, theirs


def _shortened(family: str) -> tuple[int, int]:
    """Return the transport's limit and the socket's."""

    async def run() -> tuple[int, int]:
        transport, theirs = await _connect(family)
        shorten_queues(transport)
        sock: Any = transport.get_extra_info("socket")
        unsent = 0
        if family == "tcp":
            unsent = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
        limit = transport.get_write_buffer_limits()[1]
        transport.abort()
        await asyncio.sleep(0)
        theirs.close()
        return limit, unsent

    return asyncio.run(run())


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="unknown here")
def test_socket_and_transport_take_little_ahead() -> None:
    assert _shortened("tcp") == (BUFFER_LIMIT, UNSENT_LIMIT)


def test_unix_socket_has_no_such_option() -> None:
    assert _shortened("unix")[0] == BUFFER_LIMIT


class Foreign:
    """A transport that notes the limits it gets."""

    def __init__(self) -> None:
        self.limits: list[int] = []

    def set_write_buffer_limits(self, high: int) -> None:
        self.limits.append(high)


class Lost(Foreign):
    """The loop's own transport, after its connection was lost."""

    def get_extra_info(self, name: str) -> None:
        return None


@pytest.mark.parametrize("transport", [Lost(), Foreign()], ids=["lost", "foreign"])
def test_transport_without_a_socket_keeps_its_limits(transport: Foreign) -> None:
    shorten_queues(transport)

    assert transport.limits == []


def test_name_that_is_looked_up_for_long_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = threading.Event()
    seen: list[str] = []

    def look_up(host: str, port: int, flags: int = 0) -> Any:
        if not flags:
            # As a name server that does not answer.
            assert told.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    def warn(text: str, host: str) -> None:
        seen.append(text % host)
        told.set()

    monkeypatch.setattr(sockets, "LOOKUP_NOTICE", 0.01)
    monkeypatch.setattr(sockets, "_look_up", look_up)
    monkeypatch.setattr(sockets.logger, "warning", warn)
    before = threading.active_count()
    with pytest.raises(ListenError, match="cannot be resolved"):
        open_sockets(TCPAddress("nowhere.example", 80), backlog=1)

    assert seen == [
        "Still looking up the host name 'nowhere.example': its name server does not "
        "answer"
    ]
    assert threading.active_count() <= before
