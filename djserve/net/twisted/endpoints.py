"""Twisted endpoint strings -> connections: its transports under djserve's receivers.

Whatever an endpoint's plugin puts between (TLS, the PROXY protocol), the receiver gets
bytes and a Transport as from any other listener.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from twisted.internet import endpoints, error, interfaces
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.components import registerAdapter
from zope.interface import implementer  # type: ignore[import-untyped]

from djserve.errors import ListenError
from djserve.interfaces import ConnectionInfo
from djserve.net.address import TCPAddress, UnixAddress
from djserve.net.sockets import unix_path
from djserve.net.tls import pyopenssl_extension
from djserve.net.twisted.proxied import judge_headers
from djserve.net.twisted.records import bound_records
from djserve.net.twisted.transport import StreamTransport, host_and_port

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure

    from djserve.interfaces import OpenConnection, Receiver
    from djserve.net.acceptor import Opening

logger = logging.getLogger("djserve.net")


def _find_negotiation(factory: Any) -> Any:
    """Let a factory that wraps another ("haproxy:ssl:...") negotiate as that does.

    Twisted fails the handshake of every client that offers ALPN otherwise.
    """
    return interfaces.IProtocolNegotiationFactory(factory.wrappedFactory, None)


_register: Callable[..., None] = registerAdapter
_register(_find_negotiation, WrappingFactory, interfaces.IProtocolNegotiationFactory)

_server_from_string: Callable[[Any, str], Any] = endpoints.serverFromString


async def listen_on_endpoint(
    reactor: Any,
    description: str,
    open_connection: OpenConnection,
    handshake_timeout: float,
    alpn: Sequence[str],
    opening: Opening | None = None,
) -> tuple[str, Callable[[], None]]:
    """Listen on an endpoint string; return the bound address and what stops it.

    ``opening`` gets what is in a handshake, or in the header of a wrapper, and at the
    stop what the kernel still held. Raises ListenError.
    """
    all_opening: Opening = WeakSet() if opening is None else opening
    factory = _ConnectionFactory(
        reactor, open_connection, handshake_timeout, alpn, all_opening
    )
    try:
        endpoint = _server_from_string(reactor, description)
        deferred = endpoint.listen(factory)
        port = await deferred.asFuture(asyncio.get_running_loop())
    except error.CannotListenError as failure:
        raise ListenError(description, str(failure.socketError)) from failure
    except ImportError as failure:
        hint = "TLS endpoints need the extra twisted[tls]"
        raise ListenError(description, str(failure), hint) from failure
    except Exception as failure:
        # Twisted's parsers raise what they run into, also pyOpenSSL's errors.
        raise ListenError(description, f"it is not usable: {failure}") from failure

    def close() -> None:
        # Ports of a plugin's own accept by themselves.
        take_waiting = getattr(port, "take_waiting", None)
        if take_waiting is not None:
            all_opening.update(take_waiting())
        stopped = port.stopListening()
        if stopped is not None:
            stopped.addErrback(_log_failure)

    return _address_text(port.getHost(), description), close


def _log_failure(failure: Failure) -> None:
    logger.error("A Twisted port did not close: %s", failure.getErrorMessage())


def _address_text(address: IAddress, description: str) -> str:
    match address:
        case IPv4Address() | IPv6Address():
            return str(TCPAddress(address.host, address.port))
        case UNIXAddress() if address.name:
            return str(UnixAddress(unix_path(address.name)))
    return description


@implementer(interfaces.IProtocolNegotiationFactory)
class _ConnectionFactory(Factory):
    """Build the connections of one endpoint."""

    noisy = False

    def __init__(
        self,
        reactor: Any,
        open_connection: OpenConnection,
        handshake_timeout: float,
        alpn: Sequence[str],
        opening: Opening,
    ) -> None:
        self.reactor = reactor
        self.open_connection = open_connection
        self.handshake_timeout = handshake_timeout
        self.opening = opening
        self._alpn = [protocol.encode("ascii") for protocol in alpn]

    def buildProtocol(self, addr: IAddress | None) -> Any:
        connection = EndpointConnection(self)
        self.opening.add(connection)
        return connection

    def acceptableProtocols(self) -> list[bytes]:
        return self._alpn


@implementer(interfaces.IHalfCloseableProtocol, interfaces.IHandshakeListener)
@implementer(interfaces.IPushProducer)
class EndpointConnection(Protocol):
    """A Twisted protocol above, djserve's Transport below, for one receiver.

    The receiver is opened when the connection is ready: after TLS's handshake, and
    after the header of a wrapper such as the PROXY protocol, which tells the addresses.
    """

    factory: _ConnectionFactory
    transport: Any

    def __init__(self, factory: _ConnectionFactory) -> None:
        self.factory = factory
        self._receiver: Receiver | None = None
        self._deadline: Any = None
        self._is_tls = False

    # What Twisted calls.

    def connectionMade(self) -> None:
        if isinstance(self.transport, StreamTransport):
            self._open_native(self.transport)
            return
        if not isinstance(self.transport, ProtocolWrapper):
            self._open()
            return
        judge_headers(self.transport)
        bound_records(self.transport)
        self._deadline = self.factory.reactor.callLater(
            self.factory.handshake_timeout, self.transport.abortConnection
        )

    def handshakeCompleted(self) -> None:
        self._open()

    def dataReceived(self, data: bytes) -> None:
        if self._receiver is None:
            self._open()
        if self._receiver is not None:
            self._receiver.data_received(data)

    def readConnectionLost(self) -> None:
        if self._receiver is None or not self._keeps_open(self._receiver):
            self.close()

    def writeConnectionLost(self) -> None:
        """Our own sending side is closed, as asked for."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._leave_opening()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.connection_lost(_exception_of(reason))

    def pauseProducing(self) -> None:
        if self._receiver is not None:
            self._receiver.pause_writing()

    def resumeProducing(self) -> None:
        if self._receiver is not None:
            self._receiver.resume_writing()

    def stopProducing(self) -> None:
        """The connection is lost; ``connectionLost`` tells the receiver."""

    # What the receiver calls.

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def close(self) -> None:
        # Twisted closes no transport that still has a producer.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        self.transport.abortConnection()

    def can_write_eof(self) -> bool:
        return not self._is_tls and hasattr(self.transport, "loseWriteConnection")

    def write_eof(self) -> None:
        # What is written is sent first; a producer would mean that more will come.
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()

    def pause_reading(self) -> None:
        self.transport.pauseProducing()

    def resume_reading(self) -> None:
        self.transport.resumeProducing()

    def get_write_buffer_size(self) -> int:
        """Return what waits to be sent, if the transport below can tell; else 0."""
        size = getattr(self.transport, "get_write_buffer_size", None)
        return 0 if size is None else size()

    def set_protocol(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def _open(self) -> None:
        self._leave_opening()
        # Not before: what is between may have begun TLS by startTLS.
        self._is_tls = interfaces.INegotiated.providedBy(self.transport) or bool(
            getattr(self.transport, "TLS", False)
        )
        self.transport.registerProducer(self, True)
        try:
            receiver = self.factory.open_connection(self, self._connection_info())
        except BaseException:
            self.abort()
            raise
        self._receiver = receiver

    def _open_native(self, transport: StreamTransport) -> None:
        """Put the receiver on the loop's transport itself: nothing is between."""
        self._leave_opening()
        info = self._connection_info()
        native = transport.release()
        try:
            receiver = self.factory.open_connection(native, info)
        except BaseException:
            native.abort()
            raise
        native.set_protocol(receiver)

    def _leave_opening(self) -> None:
        self.factory.opening.discard(self)
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()

    @staticmethod
    def _keeps_open(receiver: Receiver) -> bool:
        answer: object = receiver.eof_received()  # type: ignore[func-returns-value]
        return bool(answer)

    def _connection_info(self) -> ConnectionInfo:
        host = self.transport.getHost()
        tls = pyopenssl_extension(self.transport.getHandle()) if self._is_tls else None
        alpn = getattr(self.transport, "negotiatedProtocol", None)
        alpn_text = alpn.decode("ascii") if alpn else ""
        if isinstance(host, UNIXAddress):
            path = unix_path(host.name or b"")
            return ConnectionInfo(None, (path, None), tls, True, alpn_text)
        return ConnectionInfo(
            host_and_port(self.transport.getPeer()),
            host_and_port(host),
            tls,
            False,
            alpn_text,
        )


def _exception_of(reason: Failure) -> Exception | None:
    value = reason.value
    if isinstance(value, error.ConnectionDone | error.ConnectionAborted):
        return None
    return value if isinstance(value, Exception) else ConnectionError(str(value))
