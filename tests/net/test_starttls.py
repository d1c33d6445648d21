from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import trustme
from OpenSSL import SSL
from twisted.internet import defer, interfaces, ssl
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.protocols.basic import LineReceiver

from djserve.net.reactor import Reactor
from tests.support.waiting import wait_until

Run = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

LARGE = 4 * 1024 * 1024


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
            self.transport.write(bytes(LARGE))
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
        assert peer.size == LARGE
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
        assert peer.size == LARGE
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
            self.transport.write(bytes(LARGE))

    producer = Pusher()

    async def scenario(reactor: Reactor) -> None:
        factory = Factory.forProtocol(Producing)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        connecting = Connecting()
        reactor.connectTCP("127.0.0.1", port.getHost().port, connecting)
        peer = await wait(connecting.made)
        peer.setRawMode()
        peer.transport.startTLS(client)
        await wait_until(lambda: peer.size == LARGE and producer.calls[-1] == "resume")
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
