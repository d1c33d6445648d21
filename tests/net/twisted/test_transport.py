from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from OpenSSL import SSL
from twisted.internet import address, defer, error, interfaces, ssl
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.protocols.basic import FileSender, LineReceiver
from zope.interface import implementer  # type: ignore[import-untyped]
from zope.interface.verify import verifyObject  # type: ignore[import-untyped]

from djserve.net.twisted.reactor import Reactor
from djserve.net.twisted.transport import host_and_port, twisted_address
from tests.support.waiting import settle, settle_with_data, wait_until

Run = Callable[..., Any]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning"),
]

LARGE = 16 * 1024 * 1024
SECRET_SIZE = 4 * 1024 * 1024


class Peer(Protocol):
    """A Twisted protocol that keeps what it was told; hooks are set by the test."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[Any] = loop.create_future()
        self.received = asyncio.Event()

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self.received.set()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.lost.set_result(reason.value)


@implementer(interfaces.IHalfCloseableProtocol)
class HalfCloseable(Peer):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def readConnectionLost(self) -> None:
        self.events.append("read")

    def writeConnectionLost(self) -> None:
        self.events.append("write")


class Link:
    """A Twisted protocol on our transport, and the streams of its plain peer."""

    peer: Any
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def __init__(self, reactor: Reactor, build: Callable[[], Any] = Peer) -> None:
        self._reactor = reactor
        self._build = build

    async def __aenter__(self) -> Link:
        built: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def remember() -> Any:
            peer = self._build()
            built.set_result(peer)
            return peer

        factory: Any = Factory()
        factory.buildProtocol = lambda addr: remember()
        self._port = self._reactor.listenTCP(0, factory, interface="127.0.0.1")
        number = self._port.getHost().port
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", number)
        self.peer = await built
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        await self._port.stopListening().asFuture(asyncio.get_running_loop())


def test_transport_provides_twisteds_interfaces(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor) as link:
            for interface in (
                interfaces.ITCPTransport,
                interfaces.ITLSTransport,
                interfaces.IConsumer,
                interfaces.IPushProducer,
                interfaces.ISystemHandle,
                interfaces.ILoggingContext,
            ):
                verifyObject(interface, link.peer.transport)
            assert link.peer.transport.logPrefix() == "Peer"

    run_on_reactor(scenario)


def test_addresses_are_twisteds(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor) as link:
            client = link.writer.get_extra_info("sockname")
            server = link.writer.get_extra_info("peername")
            peer = address.IPv4Address("TCP", *client)
            assert link.peer.transport.getPeer() == peer
            host = address.IPv4Address("TCP", *server)
            assert link.peer.transport.getHost() == host

    run_on_reactor(scenario)


def test_write_is_the_native_transports_own(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor) as link:
            transport = link.peer.transport
            assert transport.write == transport._native.write
            transport.write(b"one ")
            transport.writeSequence([b"t", b"wo"])
            assert await link.reader.readexactly(7) == b"one two"

    run_on_reactor(scenario)


def test_lose_connection_sends_everything_first(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor) as link:
            link.peer.transport.write(bytes(LARGE))
            link.peer.transport.loseConnection()
            link.peer.transport.write(b"last")
            assert await link.reader.read(-1) == bytes(LARGE) + b"last"
            assert isinstance(await link.peer.lost, error.ConnectionDone)
            link.peer.transport.write(b"ignored")
            link.peer.transport.loseConnection()
            link.peer.transport.abortConnection()
            link.peer.transport.pauseProducing()
            link.peer.transport.resumeProducing()

    run_on_reactor(scenario)


def test_abort_connection_drops_and_resets(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor) as link:
            link.peer.transport.write(bytes(LARGE))
            link.peer.transport.abortConnection()
            assert isinstance(await link.peer.lost, error.ConnectionAborted)
            with pytest.raises(ConnectionResetError):
                await link.reader.read(-1)

    run_on_reactor(scenario)


def test_end_of_the_peer_is_connection_done(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor) as link:
            link.writer.write(b"bye")
            link.writer.close()
            assert isinstance(await link.peer.lost, error.ConnectionDone)
            assert link.peer.data == b"bye"
            assert link.peer.transport.fileno() == -1

    run_on_reactor(scenario)


def test_reset_by_the_peer_is_connection_lost(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor) as link:
            sock = link.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0" + bytes(4))
            link.writer.transport.abort()
            assert type(await link.peer.lost) is error.ConnectionLost

    run_on_reactor(scenario)


def test_exception_in_a_protocol_ends_its_connection(run_on_reactor: Run) -> None:
    class Broken(Peer):
        def dataReceived(self, data: bytes) -> None:
            raise LookupError("broken")

    async def scenario(reactor: Reactor) -> None:
        reactor.loop.set_exception_handler(lambda loop, context: None)
        async with Link(reactor, Broken) as link:
            link.writer.write(b"x")
            assert isinstance(await link.peer.lost, LookupError)
            assert await link.reader.read() == b""

    run_on_reactor(scenario)


def test_exception_in_a_factory_closes_the_connection(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        reactor.loop.set_exception_handler(lambda loop, context: None)
        factory: Any = Factory()
        factory.buildProtocol = lambda addr: 1 / 0
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        number = port.getHost().port
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        assert await reader.read() == b""
        assert not reactor.streams
        writer.close()
        port.stopListening()

    run_on_reactor(scenario)


def test_factory_may_refuse_a_connection(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        factory: Any = Factory()
        factory.buildProtocol = lambda addr: None
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        number = port.getHost().port
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        assert await reader.read() == b""
        writer.close()
        port.stopListening()

    run_on_reactor(scenario)


def test_protocol_may_be_replaced(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor) as link:
            link.writer.write(b"one")
            await link.peer.received.wait()
            successor = Peer()
            link.peer.transport.protocol = successor
            successor.makeConnection(link.peer.transport)
            link.writer.write(b"two")
            await successor.received.wait()
            assert (link.peer.data, successor.data) == (b"one", b"two")
            link.writer.close()
            await successor.lost

    run_on_reactor(scenario)


def test_data_received_may_be_replaced(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor) as link:
            successor = Peer()
            link.peer.dataReceived = successor.dataReceived
            link.writer.write(b"two")
            await successor.received.wait()
            assert link.peer.data == b""

    run_on_reactor(scenario)


def test_options_of_tcp_are_set(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor) as link:
            transport = link.peer.transport
            for enabled in (False, True):
                transport.setTcpNoDelay(enabled)
                transport.setTcpKeepAlive(enabled)
                assert transport.getTcpNoDelay() is enabled
                assert transport.getTcpKeepAlive() is enabled
            assert transport.getHandle().fileno() == transport.fileno()

    run_on_reactor(scenario)


def test_options_of_tcp_are_ignored_on_a_unix_socket(
    run_on_reactor: Run, tmp_path: Path
) -> None:
    path = str(tmp_path / "s")

    async def scenario(reactor: Reactor) -> None:
        peers: asyncio.Queue[Peer] = asyncio.Queue()

        class Remembered(Peer):
            def connectionMade(self) -> None:
                peers.put_nowait(self)

        port = reactor.listenUNIX(path, Factory.forProtocol(Remembered))
        _reader, writer = await asyncio.open_unix_connection(path)
        transport = (await peers.get()).transport
        transport.setTcpNoDelay(True)
        assert transport.getTcpNoDelay() is False
        assert transport.getPeer() == address.UNIXAddress(None)
        assert transport.getHost().name == os.fsencode(path)
        writer.close()
        port.stopListening()

    run_on_reactor(scenario)


# Half-closed connections


def test_half_closeable_protocol_answers_after_the_peers_end(
    run_on_reactor: Run,
) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor, HalfCloseable) as link:
            link.writer.write_eof()
            await wait_until(lambda: link.peer.events == ["read"])
            link.peer.transport.pauseProducing()
            link.peer.transport.resumeProducing()
            await settle()
            assert link.peer.events == ["read"]
            link.peer.transport.write(b"answer")
            link.peer.transport.loseConnection()
            assert await link.reader.read() == b"answer"
            assert isinstance(await link.peer.lost, error.ConnectionDone)

    run_on_reactor(scenario)


@pytest.mark.parametrize("size", [0, LARGE], ids=["empty", "full"])
def test_lost_write_connection_sends_everything_and_still_reads(
    run_on_reactor: Run, size: int
) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor, HalfCloseable) as link:
            link.peer.transport.write(bytes(size))
            link.peer.transport.loseWriteConnection()
            assert await link.reader.read(-1) == bytes(size)
            await wait_until(lambda: link.peer.events == ["write"])
            link.peer.transport.write(b"ignored")
            link.writer.write(b"more")
            await link.peer.received.wait()
            assert link.peer.data == b"more"
            link.peer.transport.loseConnection()
            assert isinstance(await link.peer.lost, error.ConnectionDone)

    run_on_reactor(scenario)


# Reading with a brake


def test_paused_protocol_gets_nothing_until_it_resumes(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor) as link:
            link.peer.transport.pauseProducing()
            link.writer.write(b"held")
            await settle_with_data(link.peer.transport.fileno())
            assert link.peer.data == b""
            link.peer.transport.resumeProducing()
            await link.peer.received.wait()
            assert link.peer.data == b"held"

    run_on_reactor(scenario)


@pytest.mark.parametrize("ends", [False, True], ids=["open", "ended"])
def test_protocol_paused_at_its_start_gets_nothing_until_it_resumes(
    run_on_reactor: Run, ends: bool
) -> None:
    class Paused(Peer):
        def connectionMade(self) -> None:
            self.transport.pauseProducing()

    async def scenario(reactor: Reactor) -> None:
        peers: list[Paused] = []

        class Remembered(Paused):
            def connectionMade(self) -> None:
                super().connectionMade()
                peers.append(self)

        factory = Factory.forProtocol(Remembered)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        # All that the peer sends is there before the connection is accepted.
        with socket.create_connection(("127.0.0.1", port.getHost().port)) as client:
            client.sendall(b"early")
            if ends:
                client.shutdown(socket.SHUT_WR)
            await wait_until(lambda: peers)
            await settle()
            assert peers[0].data == b""
            peers[0].transport.resumeProducing()
            await peers[0].received.wait()
            assert peers[0].data == b"early"
            if not ends:
                client.sendall(b" late")
                await wait_until(lambda: peers[0].data == b"early late")
        await peers[0].lost
        port.stopListening()

    run_on_reactor(scenario)


# Writing with a brake


@implementer(interfaces.IPushProducer)
class Pusher:
    """A push producer: writes on until it is paused."""

    def __init__(self, transport: Any, size: int) -> None:
        self.transport = transport
        self.left = size
        self.is_paused = False
        self.is_stopped = False
        self.most = 0
        self.pauses = 0

    def pauseProducing(self) -> None:
        self.is_paused = True
        self.pauses += 1

    def resumeProducing(self) -> None:
        self.is_paused = False
        while self.left and not self.is_paused:
            chunk = min(self.left, 65536)
            self.left -= chunk
            self.transport.write(bytes(chunk))
            self.most = max(self.most, self.transport.get_write_buffer_size())
        if not self.left:
            self.transport.unregisterProducer()

    def stopProducing(self) -> None:
        self.is_stopped = True


def test_push_producer_is_paused_while_the_buffer_is_full(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor) as link:
            producer = Pusher(link.peer.transport, LARGE)
            link.peer.transport.registerProducer(producer, True)
            producer.resumeProducing()
            link.peer.transport.loseConnection()
            await wait_until(lambda: producer.is_paused)
            await settle()
            assert not link.peer.lost.done()
            assert len(await link.reader.read(-1)) == LARGE
            assert isinstance(await link.peer.lost, error.ConnectionDone)
            assert producer.pauses > 1
            assert producer.most <= 2 * 65536

    run_on_reactor(scenario)


def test_push_producer_with_room_holds_up_no_end(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor) as link:
            producer = Pusher(link.peer.transport, 0)
            link.peer.transport.registerProducer(producer, True)
            link.peer.transport.write(bytes(LARGE))
            link.peer.transport.loseConnection()
            await settle()
            assert producer.is_paused
            # It stays registered: what it wrote is sent, and then nothing is awaited.
            producer.left = 1
            producer.resumeProducing = lambda: None  # type: ignore[method-assign]
            assert await link.reader.read(-1) == bytes(LARGE)
            assert isinstance(await link.peer.lost, error.ConnectionDone)
            assert producer.is_stopped

    run_on_reactor(scenario)


def test_half_close_of_a_reset_connection_is_no_error(
    run_on_reactor: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor, HalfCloseable) as link:
            linger = struct.pack("ii", 1, 0)
            sock = link.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            # Both take place in the next turn: the loop has not seen the reset then.
            link.writer.close()
            link.peer.transport.loseWriteConnection()
            await link.peer.lost

    run_on_reactor(scenario)

    assert not [record for record in caplog.records if record.name == "asyncio"]


def test_producer_that_comes_to_a_full_transport_is_paused(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor) as link:
            link.peer.transport.write(bytes(LARGE))
            producer = Pusher(link.peer.transport, 10)
            link.peer.transport.registerProducer(producer, True)
            assert producer.is_paused
            link.peer.transport.loseConnection()
            assert len(await link.reader.read(-1)) == LARGE + 10

    run_on_reactor(scenario)


def test_pull_producer_is_asked_as_the_peer_reads(
    run_on_reactor: Run, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(LARGE))

    async def scenario(reactor: Reactor) -> bytes:
        with path.open("rb") as file:
            async with Link(reactor) as link:
                sender = FileSender()
                done = sender.beginFileTransfer(file, link.peer.transport)
                await wait_until(file.tell)
                await settle()
                assert file.tell() < LARGE
                link.peer.transport.loseConnection()
                data = await link.reader.read(-1)
                await done.asFuture(reactor.loop)
                await link.peer.lost
                return data

    assert run_on_reactor(scenario) == path.read_bytes()


def test_only_one_producer_is_taken(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor) as link:
            producer = Pusher(link.peer.transport, 0)
            link.peer.transport.registerProducer(producer, True)
            with pytest.raises(RuntimeError, match="is registered"):
                link.peer.transport.registerProducer(producer, True)
            link.peer.transport.stopConsuming()
            assert isinstance(await link.peer.lost, error.ConnectionDone)

    run_on_reactor(scenario)


def test_producer_is_stopped_with_the_connection(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor) as link:
            first = Pusher(link.peer.transport, 0)
            link.peer.transport.registerProducer(first, True)
            link.writer.close()
            await link.peer.lost
            late = Pusher(link.peer.transport, 0)
            link.peer.transport.registerProducer(late, True)
            assert (first.is_stopped, late.is_stopped) == (True, True)
            assert link.peer.transport.producer is None

    run_on_reactor(scenario)


def test_half_close_waits_for_the_producer(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor, HalfCloseable) as link:
            producer = Pusher(link.peer.transport, LARGE)
            link.peer.transport.registerProducer(producer, True)
            link.peer.transport.loseWriteConnection()
            producer.resumeProducing()
            assert len(await link.reader.read(-1)) == LARGE
            await wait_until(lambda: link.peer.events == ["write"])

    run_on_reactor(scenario)


@pytest.fixture(scope="module")
def contexts() -> tuple[Any, Any]:
    """A server's and a client's TLS settings, as Twisted has them."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    certificate = ssl.PrivateCertificate.loadPEM(
        issued.private_key_and_cert_chain_pem.bytes()
    )
    root = ssl.Certificate.loadPEM(authority.cert_pem.bytes())
    return certificate.options(), ssl.optionsForClientTLS("localhost", root)


class Server(LineReceiver):
    """Answers STARTTLS with TLS, and SEND with much."""

    transport: Any
    factory: Any

    def lineReceived(self, line: bytes) -> None:
        if line == b"STARTTLS":
            self.sendLine(b"READY")
            self.transport.startTLS(self.factory.context)
        elif line == b"SEND":
            self.transport.write(bytes(SECRET_SIZE))
            self.transport.loseConnection()
        else:
            is_secure = interfaces.ISSLTransport.providedBy(self.transport)
            self.sendLine(line[::-1] + (b" secret" if is_secure else b""))


class Client(LineReceiver):
    transport: Any

    def __init__(self) -> None:
        self.lines: defer.DeferredQueue[bytes] = defer.DeferredQueue()
        self.size = 0
        self.lost: defer.Deferred[Any] = defer.Deferred()

    def lineReceived(self, line: bytes) -> None:
        self.lines.put(line)

    def rawDataReceived(self, data: bytes) -> None:
        self.size += len(data)

    def connectionLost(self, reason: Any) -> None:  # type: ignore[override]
        self.lost.callback(reason.value)


class Connecting(ClientFactory):
    noisy = False

    def __init__(self, build: Callable[[], Client] = Client) -> None:
        self.made: defer.Deferred[Client] = defer.Deferred()
        self._build = build

    def buildProtocol(self, addr: Any) -> Any:
        client = self._build()
        # The deferred fires when the client has its transport.
        asyncio.get_running_loop().call_soon(self.made.callback, client)
        return client


async def wait(deferred: Any) -> Any:
    return await deferred.asFuture(asyncio.get_running_loop())


def server_factory(context: Any) -> Any:
    factory: Any = Factory.forProtocol(Server)
    factory.context = context
    return factory


@pytest.mark.e2e
def test_connection_turns_to_tls_in_the_middle(
    run_on_reactor: Run, contexts: tuple[Any, Any]
) -> None:
    server, client = contexts

    async def scenario(reactor: Reactor) -> None:
        port = reactor.listenTCP(0, server_factory(server), interface="127.0.0.1")
        connecting = Connecting()
        reactor.connectTCP("127.0.0.1", port.getHost().port, connecting)
        peer = await wait(connecting.made)
        peer.sendLine(b"abc")
        assert await wait(peer.lines.get()) == b"cba"
        peer.sendLine(b"STARTTLS")
        assert await wait(peer.lines.get()) == b"READY"
        peer.transport.startTLS(client)
        assert peer.transport.TLS
        peer.sendLine(b"abc")
        assert await wait(peer.lines.get()) == b"cba secret"
        handle = peer.transport.getHandle()
        assert isinstance(handle, SSL.Connection)
        assert peer.transport.getPeerCertificate()
        peer.setRawMode()
        peer.transport.write(b"SEND\r\n")
        await wait(peer.lost)
        assert peer.size == SECRET_SIZE
        await wait(port.stopListening())

    run_on_reactor(scenario)


@pytest.mark.e2e
def test_tls_port_and_client_work(
    run_on_reactor: Run, contexts: tuple[Any, Any]
) -> None:
    server, client = contexts

    async def scenario(reactor: Reactor) -> None:
        port = reactor.listenSSL(0, server_factory(None), server, interface="127.0.0.1")
        connecting = Connecting()
        reactor.connectSSL("127.0.0.1", port.getHost().port, connecting, client)
        peer = await wait(connecting.made)
        peer.sendLine(b"abc")
        assert (await wait(peer.lines.get())).startswith(b"cba")
        peer.setRawMode()
        peer.transport.write(b"SEND\r\n")
        await wait(peer.lost)
        assert peer.size == SECRET_SIZE
        await wait(port.stopListening())

    run_on_reactor(scenario)


@pytest.mark.e2e
def test_producer_moves_above_the_tls_layer(
    run_on_reactor: Run, contexts: tuple[Any, Any]
) -> None:
    server, client = contexts

    class Pusher:
        def __init__(self) -> None:
            self.calls: list[str] = []

        def pauseProducing(self) -> None:
            self.calls.append("pause")

        def resumeProducing(self) -> None:
            self.calls.append("resume")

        def stopProducing(self) -> None:
            self.calls.append("stop")

    class Producing(Protocol):
        transport: Any

        def connectionMade(self) -> None:
            self.transport.registerProducer(producer, True)
            self.transport.startTLS(server)
            self.transport.write(bytes(SECRET_SIZE))

    producer = Pusher()

    async def scenario(reactor: Reactor) -> None:
        factory = Factory.forProtocol(Producing)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        connecting = Connecting()
        reactor.connectTCP("127.0.0.1", port.getHost().port, connecting)
        peer = await wait(connecting.made)
        peer.setRawMode()
        peer.transport.startTLS(client)
        await wait_until(
            lambda: peer.size == SECRET_SIZE and producer.calls[-1] == "resume"
        )
        assert producer.calls[0] == "pause"
        peer.transport.abortConnection()
        await wait(peer.lost)
        await wait_until(lambda: producer.calls[-1] == "stop")
        await wait(port.stopListening())

    run_on_reactor(scenario)


@pytest.mark.e2e
def test_roles_may_be_exchanged(run_on_reactor: Run, contexts: tuple[Any, Any]) -> None:
    server, client = contexts

    class Caller(LineReceiver):
        transport: Any

        def connectionMade(self) -> None:
            self.transport.startTLS(client, False)
            self.sendLine(b"from the port")

    class Called(Client):
        def connectionMade(self) -> None:
            self.transport.startTLS(server, False)

    async def scenario(reactor: Reactor) -> None:
        factory = Factory.forProtocol(Caller)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        connecting = Connecting(Called)
        reactor.connectTCP("127.0.0.1", port.getHost().port, connecting)
        peer = await wait(connecting.made)
        assert await wait(peer.lines.get()) == b"from the port"
        peer.transport.loseConnection()
        await wait(peer.lost)
        await wait(port.stopListening())

    run_on_reactor(scenario)


@pytest.mark.parametrize(
    ("family", "name", "address", "pair"),
    [
        (socket.AF_INET, ("1.2.3.4", 5), IPv4Address("TCP", "1.2.3.4", 5), "1.2.3.4"),
        (socket.AF_INET6, ("::1", 5, 0, 2), IPv6Address("TCP", "::1", 5, 0, 2), "::1"),
        (socket.AF_UNIX, "/a", UNIXAddress("/a"), None),
        (socket.AF_UNIX, "", UNIXAddress(None), None),
    ],
    ids=["ipv4", "ipv6", "unix", "unnamed"],
)
def test_socket_name_becomes_an_address_and_a_pair(
    family: int, name: Any, address: object, pair: str | None
) -> None:
    made = twisted_address(family, name)

    assert made == address
    assert host_and_port(made) == (None if pair is None else (pair, 5))
