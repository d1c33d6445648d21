"""Put Twisted's TLS between a protocol and its transport while they are connected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import ISSLTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import (  # type: ignore[import-untyped]
    directlyProvides,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_build_factory: Callable[..., Any] = TLSMemoryBIOFactory


class TLSBase(Protocol):
    """A transport that TLS can be put on: Twisted's methods, and those below TLS."""

    TLS: bool
    protocol: Any
    reactor: Any
    write: Callable[[bytes], None]
    raw_write: Callable[[bytes], None]

    @property
    def producer(self) -> Any: ...
    @property
    def streamingProducer(self) -> bool: ...
    def registerProducer(self, producer: Any, streaming: bool) -> None: ...
    def unregisterProducer(self) -> None: ...
    def raw_lose_connection(self) -> None: ...
    def raw_register_producer(self, producer: Any, streaming: bool) -> None: ...
    def raw_unregister_producer(self) -> None: ...


def start_tls(stream: TLSBase, context_factory: Any, *, is_client: bool) -> None:
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
    directlyProvides(stream, ISSLTransport)
    layer.makeConnection(_BelowTLS(stream))
    if producer is not None:
        stream.registerProducer(producer, streaming)


class _BelowTLS:
    """The stream as its TLS layer sees it: past the methods that lead to that layer."""

    def __init__(self, stream: TLSBase) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, data: bytes) -> None:
        self._stream.raw_write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self._stream.raw_write(b"".join(iovec))

    def loseConnection(self) -> None:
        self._stream.raw_lose_connection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._stream.raw_register_producer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._stream.raw_unregister_producer()
