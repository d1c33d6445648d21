"""The loop's native stream transport behind Twisted's transport interfaces.

Towards the loop it is a protocol, towards a Twisted protocol it is the transport. Who
the protocol is and what the connection belongs to (a port, a connector) it is told.
"""

# The ends of a connection
#
# A stream has two directions, and Twisted's protocols may see them end one after the
# other. Four ends have to be told apart:
#
# - ``loseConnection``: send what is buffered, then close. Reading stops at once, as
#   with Twisted's own transports. A producer that was asked for more, and has not given
#   it yet, is waited for (``ProducerAdapter.is_awaited``).
# - ``abortConnection``: close now, with a reset, and drop what is buffered.
# - ``loseWriteConnection``: end our direction, and read on (a half-close). The end may
#   only be sent behind all that was written. The loop says that its buffer has fallen
#   below a limit, not that it is empty; the limit is therefore set to 0, and the end
#   sent from ``resume_writing``. With an empty buffer it is sent in the next turn,
#   after what Twisted writes in this one.
# - ``eof_received``: the peer has ended its direction. A protocol that provides
#   IHalfCloseableProtocol hears of it and may go on writing; for any other the
#   connection ends. What had arrived before and is held back by a pause is delivered
#   first.
#
# TLS has no half-close here, and ``EndpointConnection.can_write_eof`` says so. Its
# layer stands between this object and the protocol, and does not provide
# IHalfCloseableProtocol, so the end of the TCP stream is the end of the connection: TLS
# 1.3 would allow one direction to end alone (RFC 8446 section 6.1), but without
# close_notify it could not be told from an attacker's cut.
#
# Once TLS has begun, two objects call for the same connection: the protocol above asks
# for an orderly end of TLS first (``loseConnection`` leads to the layer, which sends
# close_notify and then ends what is below), while the layer itself needs the methods of
# the bare stream. ``_BelowTLS`` is the stream as the layer sees it. With one set of
# methods for both, the layer's own call would lead back to the layer.

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet import error, interfaces
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import (  # type: ignore[import-untyped]
    directlyProvides,
    implementer,
)

from djserve.net.sockets import get_option, reset_on_close, set_option
from djserve.net.twisted.producers import ProducerAdapter
from djserve.net.twisted.records import bound_records
from djserve.postponed import postponed_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.internet.interfaces import IAddress

_build_factory = postponed_call("twisted.protocols.tls", "TLSMemoryBIOFactory")


def _half_closeable(protocol: Any) -> Any:
    return interfaces.IHalfCloseableProtocol(protocol, None)


def _ignore(data: bytes) -> None:
    """Take the place of ``write`` after the connection's end, as Twisted has it."""


@implementer(
    interfaces.IConsumer,
    interfaces.ILoggingContext,
    interfaces.IPushProducer,
    interfaces.ISystemHandle,
    interfaces.ITLSTransport,
)
class StreamTransport:
    """One TCP or unix connection.

    ``build_protocol`` gets the peer's address once the connection stands, and returns
    the Twisted protocol or None. ``on_lost`` is called after the protocol has been told
    of the end. ``write`` is the native one itself, bound on the instance.
    """

    connected = False
    disconnected = False
    disconnecting = False
    TLS = False

    def __init__(
        self,
        reactor: Any,
        build_protocol: Callable[[IAddress], Any],
        *,
        is_client: bool = False,
        on_lost: Callable[[Failure], None] | None = None,
    ) -> None:
        self.reactor = reactor
        self.protocol: Any = None
        self.write: Callable[[bytes], None] = _ignore
        self.raw_write: Callable[[bytes], None] = _ignore
        self._build_protocol = build_protocol
        self._is_client = is_client
        self._on_lost = on_lost
        self._native: Any = None
        self._reason: Failure | None = None
        self._is_paused = False
        self._producer = ProducerAdapter(reactor.loop)
        self._is_read_closed = False
        self._wants_half_close = False
        self._early: list[bytes] = []

    # What the loop calls.

    def connection_made(self, native: Any) -> None:
        self._native = native
        sock = native.get_extra_info("socket")
        peer = native.get_extra_info("peername")
        if peer is None:
            # The peer reset the connection before it was accepted.
            native.abort()
            return
        self._peer = twisted_address(sock.family, peer)
        self._host = twisted_address(sock.family, native.get_extra_info("sockname"))
        self._socket = sock
        self.connected = True
        self.reactor.streams.add(self)
        self._set_write(native.write)
        try:
            self._connect_protocol()
        except BaseException:
            # The loop logs it; without a protocol the connection must not stay open.
            self.release().abort()
            raise
        if self._is_paused:
            # uvloop starts to read when this method has returned, come what may.
            self.reactor.loop.call_soon(self._pause_native)

    def data_received(self, data: bytes) -> None:
        # Looked up each time: Twisted's protocols replace both attributes.
        if self._is_paused:
            self._early.append(data)
        else:
            self.protocol.dataReceived(data)

    def eof_received(self) -> bool:
        self._is_read_closed = True
        if self._early:
            return True
        return self._end_reading()

    def pause_writing(self) -> None:
        self._producer.pause()

    def resume_writing(self) -> None:
        self._producer.resume()
        if self.disconnecting:
            self._close_unless_awaited()
        elif self._wants_half_close and self.producer is None:
            self._half_close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reason is not None:
            reason = self._reason
        elif exc is None:
            reason = Failure(CONNECTION_DONE)
        elif isinstance(exc, OSError):
            reason = Failure(CONNECTION_LOST)
        else:
            reason = Failure(exc)
        self._lose(reason)

    # Twisted's ITCPTransport, ITLSTransport and ISystemHandle.

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def loseConnection(self, *args: object) -> None:
        if not self.TLS:
            self.raw_lose_connection()
        elif self.connected and not self.disconnecting:
            self.protocol.loseConnection()

    def abortConnection(self) -> None:
        if self.connected and self._reason is None:
            self._reason = Failure(error.ConnectionAborted())
            self.disconnecting = True
            self._set_write(_ignore)
            reset_on_close(self._socket)
            self._native.abort()

    def loseWriteConnection(self) -> None:
        if not self.connected or self.disconnecting:
            return
        self._wants_half_close = True
        if self._native.get_write_buffer_size():
            # The loop tells of an empty buffer only below this limit.
            self._native.set_write_buffer_limits(0)
        elif self.producer is None:
            self.reactor.loop.call_soon(self._half_close)

    def getPeer(self) -> IAddress:
        return self._peer

    def getHost(self) -> IAddress:
        return self._host

    def getHandle(self) -> Any:
        return self._socket

    def fileno(self) -> int:
        return int(self._socket.fileno()) if self.connected else -1

    def getTcpNoDelay(self) -> bool:
        return get_option(self._socket, socket.IPPROTO_TCP, socket.TCP_NODELAY)

    def setTcpNoDelay(self, enabled: bool) -> None:
        set_option(self._socket, socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:
        return get_option(self._socket, socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    def setTcpKeepAlive(self, enabled: bool) -> None:
        set_option(self._socket, socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        is_client = self._is_client if normal else not self._is_client
        start_tls(self, contextFactory, is_client=is_client)

    def logPrefix(self) -> str:
        if interfaces.ILoggingContext.providedBy(self.protocol):
            return str(self.protocol.logPrefix())
        return type(self.protocol).__name__

    # Twisted's IPushProducer: the way to pause what comes in.

    def pauseProducing(self) -> None:
        self._is_paused = True
        self._native.pause_reading()

    def resumeProducing(self) -> None:
        if not self.connected or self.disconnecting or not self._is_paused:
            return
        self._is_paused = False
        if self._early:
            self.reactor.loop.call_soon(self._deliver_early)
        elif not self._is_read_closed:
            self._native.resume_reading()

    def stopProducing(self) -> None:
        self.loseConnection()

    # Twisted's IConsumer: the producer pauses while too much waits to be sent.

    @property
    def producer(self) -> Any:
        return self._producer.producer

    @property
    def streamingProducer(self) -> bool:
        return self._producer.streaming

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.TLS:
            self.protocol.registerProducer(producer, streaming)
        else:
            self.raw_register_producer(producer, streaming)

    def unregisterProducer(self) -> None:
        if self.TLS:
            self.protocol.unregisterProducer()
        else:
            self.raw_unregister_producer()

    def stopConsuming(self) -> None:
        self.unregisterProducer()
        self.loseConnection()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        return int(self._native.get_write_buffer_size()) if self.connected else 0

    @property
    def is_closing(self) -> bool:
        """Whether the loop's transport takes nothing more to send."""
        return bool(self._native.is_closing())

    def release(self) -> Any:
        """Give up the native transport, for a receiver that will sit on it directly."""
        self.connected = False
        self.reactor.streams.discard(self)
        return self._native

    # What the reactor calls at its end, as on Twisted's own descriptors.

    def connectionLost(self, reason: Failure) -> None:
        if self.connected:
            self._native.abort()
            self._lose(reason)

    # The same connection below TLS.

    def raw_lose_connection(self) -> None:
        if not self.connected or self.disconnecting:
            return
        self.disconnecting = True
        self._native.pause_reading()
        self._close_unless_awaited()

    def raw_register_producer(self, producer: Any, streaming: bool) -> None:
        if self.connected or self.producer is not None:
            self._producer.register(producer, streaming)
        else:
            producer.stopProducing()

    def raw_unregister_producer(self) -> None:
        self._producer.unregister()
        if self.disconnecting:
            self._close_soon()
        elif self._wants_half_close:
            self.loseWriteConnection()

    def _connect_protocol(self) -> None:
        protocol = self._build_protocol(self._peer)
        self.protocol = Protocol() if protocol is None else protocol
        self.protocol.makeConnection(self)
        if protocol is None:
            self.loseConnection()

    def _set_write(self, write: Callable[[bytes], None]) -> None:
        self.raw_write = write
        if not self.TLS:
            self.write = write

    def _close_unless_awaited(self) -> None:
        # A layer of TLS that has ended leaves its producer registered, and nothing is
        # read any more: without this, the connection would have no end.
        if not self._producer.is_awaited:
            self._close_soon()

    def _close_soon(self) -> None:
        # Not at once: Twisted sends what is written after loseConnection in one go.
        if self.connected:
            self.reactor.loop.call_soon(self._native.close)

    def _half_close(self) -> None:
        if not self.connected or self.disconnecting or not self._wants_half_close:
            return
        self._wants_half_close = False
        self._set_write(_ignore)
        # asyncio's raises if the peer has reset; the loop is about to tell that.
        with suppress(OSError):
            self._native.write_eof()
        half_closeable = _half_closeable(self.protocol)
        if half_closeable is not None:
            half_closeable.writeConnectionLost()

    def _end_reading(self) -> bool:
        """Tell the protocol of the peer's end; return whether it wants to go on."""
        half_closeable = _half_closeable(self.protocol)
        if half_closeable is None or self.disconnecting:
            return False
        half_closeable.readConnectionLost()
        return not self.disconnecting

    def _pause_native(self) -> None:
        if self.connected and self._is_paused:
            self._native.pause_reading()

    def _deliver_early(self) -> None:
        """Deliver what came in spite of a pause, in the very first turn."""
        while self._early and self.connected and not self._is_paused:
            self.protocol.dataReceived(self._early.pop(0))
        if self._early or not self.connected or self._is_paused:
            return
        if not self._is_read_closed:
            self._native.resume_reading()
        elif not self._end_reading():
            self._close_soon()

    def _lose(self, reason: Failure) -> None:
        if not self.connected:
            return
        self.connected = False
        self.disconnected = True
        self._set_write(_ignore)
        self.write = _ignore
        self.reactor.streams.discard(self)
        self._producer.stop()
        self.protocol.connectionLost(reason)
        if self._on_lost is not None:
            self._on_lost(reason)


def start_tls(
    stream: StreamTransport, context_factory: Any, *, is_client: bool
) -> None:
    """Begin a handshake; the stream then hands all it is told to the TLS layer.

    The stream's protocol stays the same object and is not connected again. A producer
    is moved from below TLS to above it.
    """
    producer, streaming = stream.producer, stream.streamingProducer
    if producer is not None:
        stream.unregisterProducer()
    # The clock is passed since TLS would take it from the global reactor.
    factory = _build_factory(context_factory, is_client, None, stream.reactor)
    layer = factory.protocol(factory, stream.protocol, False)
    stream.protocol = layer
    stream.TLS = True
    stream.write = layer.write
    vars(stream).update(
        getHandle=layer.getHandle, getPeerCertificate=layer.getPeerCertificate
    )
    directlyProvides(stream, interfaces.ISSLTransport)
    layer.makeConnection(_BelowTLS(stream))
    if not is_client:
        bound_records(layer)
    if producer is not None:
        stream.registerProducer(producer, streaming)


class _BelowTLS:
    """The stream as its TLS layer sees it: past the methods that lead to that layer."""

    def __init__(self, stream: StreamTransport) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, data: bytes) -> None:
        # A loop warns of the fifth write after the end, and TLS makes many of one.
        if not self._stream.is_closing:
            self._stream.raw_write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        self._stream.raw_lose_connection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._stream.raw_register_producer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._stream.raw_unregister_producer()


def twisted_address(family: int, name: Any) -> Any:
    """Return what ``getsockname`` or ``getpeername`` gave as Twisted's address."""
    if family == socket.AF_INET6:
        return IPv6Address("TCP", *name)
    if family == socket.AF_INET:
        return IPv4Address("TCP", *name)
    return UNIXAddress(name or None)


def host_and_port(address: object) -> tuple[str, int] | None:
    """Return an internet address as ASGI has it; None for any other."""
    if isinstance(address, IPv4Address | IPv6Address):
        return address.host, address.port
    return None
