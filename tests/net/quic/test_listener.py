"""A UDP socket: handshakes, Retry under load, versions, rubbish, the stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import encode_quic_version_negotiation

from djserve.conf.schema import HTTP2Config, TLSConfig
from djserve.interfaces import ConnectionInfo, MultiplexTransport
from djserve.net.certificates import Certificates
from djserve.net.quic import listener as listener_module
from djserve.net.quic.certificate import QUICCertificates
from djserve.net.quic.listener import QUICListener
from djserve.net.quic.sockets import open_datagram_socket
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

PATIENCE = 300.0


class Echo:
    """Answer each stream with what has come on it (interfaces.StreamReceiver)."""

    def __init__(self, transport: MultiplexTransport, info: ConnectionInfo) -> None:
        self.transport = transport
        self.info = info
        self.is_lost = False

    def stream_received(self, stream_id: int, data: bytes, is_last: bool) -> None:
        self.transport.acknowledge(stream_id, len(data))
        self.transport.write_stream(stream_id, data, is_last)

    def stream_reset(self, stream_id: int, code: int) -> None: ...
    def stream_stopped(self, stream_id: int, code: int) -> None: ...
    def datagram_received(self, data: bytes) -> None:
        self.transport.send_datagram(data)

    def batch_received(self) -> None: ...
    def ping_acknowledged(self) -> None: ...
    def bytes_sent(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True


class Client(QuicConnectionProtocol):
    async def wait_closed(self) -> None:
        """Do not: it takes a multiple of the round trip, which load makes long."""


class Bench:
    """A listener that echoes, and clients of it."""

    def __init__(self, certificate: tuple[Path, Path], timeout: float) -> None:
        self.ca = certificate[1]
        tls = TLSConfig(certfile=str(certificate[0]))
        self.sock = open_datagram_socket("127.0.0.1:0")
        self.port = self.sock.getsockname()[1]
        self.opened: list[Echo] = []
        self.begun_count = 0
        self.listener = QUICListener(
            asyncio.get_running_loop(),
            self.sock,
            QUICCertificates(tls, HTTP2Config(), Certificates(tls, ("http/1.1",))),
            self.open_streams,
            100,
            timeout,
        )
        self.listener._begin = partial(  # type: ignore[method-assign]
            self.count, self.listener._begin
        )

    def open_streams(self, transport: MultiplexTransport, info: ConnectionInfo) -> Echo:
        self.opened.append(Echo(transport, info))
        return self.opened[-1]

    def count(self, begin: Any, *given: Any) -> Any:
        """Have a method of the listener called, and count it."""
        made = begin(*given)
        self.begun_count += 1
        return made

    def connect(self) -> Any:
        configuration = QuicConfiguration(
            alpn_protocols=["h3"], server_name="localhost"
        )
        configuration.load_verify_locations(str(self.ca))
        return connect(
            "127.0.0.1",
            self.port,
            configuration=configuration,
            create_protocol=Client,
        )

    async def echo(self, data: bytes) -> bytes:
        async with self.connect() as client:
            reader, writer = await client.create_stream()
            writer.write(data)
            writer.write_eof()
            return bytes(await reader.read())


Conversation = Callable[[Bench], Awaitable[None]]


@pytest.fixture
def run(certificate: tuple[Path, Path]) -> Callable[..., None]:
    """Give ``run(conversation)``: it gets a bench, which is stopped afterwards."""

    async def talk(conversation: Conversation, timeout: float) -> None:
        bench = Bench(certificate, timeout)
        async with asyncio.timeout(PATIENCE):
            try:
                await conversation(bench)
            finally:
                bench.listener.close()

    return lambda conversation, timeout=PATIENCE: asyncio.run(
        talk(conversation, timeout)
    )


def test_streams_come_up_with_what_is_known(run: Any) -> None:
    async def converse(bench: Bench) -> None:
        assert await bench.echo(b"x" * 300_000) == b"x" * 300_000
        info = bench.opened[0].info
        assert info.server == ("127.0.0.1", bench.port)
        assert info.client is not None
        assert info.alpn == "h3"
        assert info.tls is not None
        assert info.tls["server_cert"].startswith("-----BEGIN CERTIFICATE-----")
        assert info.tls["tls_version"] == 0x304
        assert bench.listener.opening_count == 0

    run(converse)


def test_clients_prove_their_address_under_load(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "RETRY_THRESHOLD", 0)
    sent: list[bytes] = []

    async def converse(bench: Bench) -> None:
        send = bench.listener.send

        def note(datagrams: list[tuple[bytes, Any]]) -> None:
            sent.extend(data for data, _ in datagrams)
            send(datagrams)

        bench.listener.send = note  # type: ignore[method-assign]
        assert await bench.echo(b"x") == b"x"

    run(converse)
    # RFC 9000 section 17.2.5: a long header of type 3.
    assert sent[0][0] & 0xF0 == 0xF0


def begin_handshake(bench: Bench) -> bytes:
    """Return the first datagram of a client that will send no other."""
    configuration = QuicConfiguration(alpn_protocols=["h3"], server_name="localhost")
    client = QuicConnection(configuration=configuration)
    client.connect(("127.0.0.1", bench.port), now=0.0)
    return client.datagrams_to_send(now=0.0)[0][0]


async def flood(bench: Bench, count: int) -> None:
    """Begin handshakes that never end, from one address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(count):
            seen = bench.begun_count
            sock.sendto(begin_handshake(bench), ("127.0.0.1", bench.port))
            await wait_until(partial(has_read_more, bench, seen))


def has_read_more(bench: Bench, seen: int) -> bool:
    return bench.begun_count > seen


def test_handshakes_of_a_host_are_limited(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "HANDSHAKES_PER_HOST", 3)

    async def converse(bench: Bench) -> None:
        await flood(bench, 5)
        assert bench.listener.opening_count == 3
        monkeypatch.setattr(listener_module, "HANDSHAKES_PER_HOST", 4)
        assert await bench.echo(b"x") == b"x"

    run(converse)


def test_oldest_handshake_makes_room(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "HANDSHAKE_LIMIT", 3)

    async def converse(bench: Bench) -> None:
        await flood(bench, 5)
        assert bench.listener.opening_count == 3
        assert await bench.echo(b"x") == b"x"
        assert bench.listener.opening_count == 2

    run(converse)


def test_handshake_that_does_not_end_is_given_up(run: Any) -> None:
    async def converse(bench: Bench) -> None:
        await flood(bench, 2)
        await wait_until(lambda: not bench.listener.opening_count)
        assert not bench.listener._by_id
        assert not bench.listener._opening_by_host
        # Its time counts from its own beginning.
        await flood(bench, 1)
        await wait_until(lambda: not bench.listener.opening_count)

    run(converse, timeout=0.05)


def test_datagram_of_an_unknown_connection_is_disowned(run: Any) -> None:
    async def converse(bench: Bench) -> None:
        async with bench.connect() as client:
            await client.ping()
            token = client._quic._peer_cid.stateless_reset_token
            (transport,) = set(bench.listener._by_id.values())
            transport.drop()
            bench.listener.terminated(transport)
            received: asyncio.Queue[bytes] = asyncio.Queue()
            client.datagram_received = lambda data, _: received.put_nowait(data)
            client._quic.send_ping(2)
            client.transmit()
            answer = await received.get()
            assert answer[-16:] == token

    run(converse)


def test_turn_that_takes_long_leaves_the_rest_to_the_next(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def converse(bench: Bench) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(3):
                sock.sendto(begin_handshake(bench), ("127.0.0.1", bench.port))
            monkeypatch.setattr(listener_module, "_LONGEST_TURN", 0.0)
            bench.listener._read()
            assert bench.begun_count == 1
            monkeypatch.setattr(listener_module, "_LONGEST_TURN", PATIENCE)
            bench.listener._read()
            assert bench.begun_count == 3

    run(converse)


def test_early_data_begins_no_connection(run: Any) -> None:
    async def converse(bench: Bench) -> None:
        head = (
            b"\xd0" + (1).to_bytes(4, "big") + b"\x08" + b"d" * 8 + b"\x08" + b"s" * 8
        )
        early = head + b"\x44\xb0" + bytes(1200)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(early, ("127.0.0.1", bench.port))
            # Read in order.
            assert await bench.echo(b"x") == b"x"
        assert bench.begun_count == 1

    run(converse)


def test_rubbish_and_unknown_versions(run: Any) -> None:
    answers: asyncio.Queue[bytes]

    class Peer(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            answers.put_nowait(data)

    async def converse(bench: Bench) -> None:
        nonlocal answers
        answers = asyncio.Queue()
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            Peer, remote_addr=("127.0.0.1", bench.port)
        )
        unknown = b"\xc0\xfa\xce\xb0\x0c\x08" + b"d" * 8 + b"\x08" + b"s" * 8
        negotiation = encode_quic_version_negotiation(
            source_cid=b"a" * 8, destination_cid=b"b" * 8, supported_versions=[1]
        )
        for data in (
            *(b"", b"\0", b"\x40" + b"x" * 20, b"\xff" * 1200, unknown),
            negotiation + bytes(1200),
            unknown + bytes(1200),
        ):
            transport.sendto(data)
        # Only what is large enough and of an unknown version gets an answer.
        answer = await answers.get()
        assert answer[1:5] == bytes(4)
        assert answer[6:14] == b"s" * 8
        assert await bench.echo(b"x") == b"x"
        transport.close()
        assert answers.empty()

    run(converse)


@pytest.mark.parametrize("place", ["datagram", "answer"])
def test_fault_in_one_connection_ends_it_alone(
    run: Any, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    def fail() -> None:
        raise RuntimeError("as planned")

    class Silent(Echo):
        def stream_received(self, stream_id: int, data: bytes, is_last: bool) -> None:
            """Send nothing back."""

    async def converse(bench: Bench) -> None:
        async with bench.connect() as client:
            await client.ping()
            bench.opened[0].__class__ = Silent
            name = "batch_received" if place == "datagram" else "bytes_sent"
            setattr(bench.opened[0], name, fail)
            client._quic.send_stream_data(0, b"x")
            client.transmit()
            await wait_until(lambda: bench.opened[0].is_lost)
            assert await bench.echo(b"y") == b"y"

    run(converse)
    (record,) = [each for each in caplog.records if each.exc_info]
    assert "127.0.0.1" in record.getMessage()


def test_stop_takes_no_more_and_closes_at_the_last(run: Any) -> None:
    async def converse(bench: Bench) -> None:
        terminated = asyncio.Event()
        forget = bench.listener.terminated

        def note(transport: Any) -> None:
            forget(transport)
            terminated.set()

        bench.listener.terminated = note  # type: ignore[method-assign]
        async with bench.connect() as client:
            reader, writer = await client.create_stream()
            writer.write(b"before")
            assert await reader.read(6) == b"before"
            bench.listener.stop()
            writer.write(b"after")
            assert await reader.read(5) == b"after"
            assert bench.sock.fileno() >= 0
            writer.close()
        await terminated.wait()
        assert bench.sock.fileno() < 0
        assert bench.opened[0].is_lost

    run(converse)
