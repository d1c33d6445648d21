"""HTTP/3 beside each TLS address: UDP sockets, their certificate, their offer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from djserve.conf.extras import missing_package
from djserve.errors import ListenError
from djserve.net.quic.sockets import adopt_datagram_socket, open_datagram_socket

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from djserve.conf.schema import HTTP2Config, HTTPConfig, TLSConfig
    from djserve.net.certificates import Certificates
    from djserve.net.listeners import Listener
    from djserve.net.quic.listener import QUICListener
    from djserve.net.quic.relay import Relay
    from djserve.server.factory import ConnectionFactory

    MakeListener = Callable[[Any, Relay | None], QUICListener]

logger = logging.getLogger("djserve")


class QUICServer:
    """What one process serves of HTTP/3.

    Raises ConfigError if aioquic is missing, or cannot use the certificate.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tls: TLSConfig,
        http: HTTPConfig,
        http2: HTTP2Config,
        certificates: Certificates,
        factory: ConnectionFactory,
        *,
        datagrams: bool = False,
    ) -> None:
        self._loop = loop
        self._factory = factory
        self._make = _prepare(
            loop, tls, http, http2, certificates, factory, datagrams=datagrams
        )
        self._relay: Relay | None = None
        self._is_stopped = False
        self.listeners: list[QUICListener] = []

    @property
    def opening_count(self) -> int:
        """How many connections are in their handshake."""
        return sum(listener.opening_count for listener in self.listeners)

    def open_beside(self, listeners: Iterable[Listener]) -> None:
        """Listen beside each that has a TCP port. Raises ListenError."""
        for listener in listeners:
            if listener.port is not None:
                self._open(open_datagram_socket(listener.address), listener.port)

    def adopt(self, number: int, folder: str) -> None:
        """Serve a supervisor's socket, of an address that other workers serve too.

        In the folder the workers hand datagrams on.
        """
        sock = adopt_datagram_socket(number)
        if self._relay is None and not self._is_stopped:
            self._relay = _open_relay(self._loop, folder, self._take)
        if self._relay is None or self._is_stopped:
            # Without a relay, clients that another worker knows would be disowned.
            sock.close()
            return
        self._open(sock, sock.getsockname()[1], self._relay)

    def stop(self) -> None:
        """Take no new connection. May be called again."""
        self._is_stopped = True
        if self._relay is not None:
            self._relay.retire()
        for listener in self.listeners:
            listener.stop()

    def close(self) -> None:
        """Close the sockets, with what is left."""
        self.stop()
        for listener in self.listeners:
            listener.close()
        if self._relay is not None:
            self._relay.close()

    def _open(self, sock: Any, port: int, relay: Relay | None = None) -> None:
        self.listeners.append(self._make(sock, relay))
        self._factory.offer_http3(port)

    def _take(self, server: str, data: bytes, client: Any) -> None:
        for listener in self.listeners:
            if listener.address == server:
                listener.take(data, client)


def _prepare(
    loop: asyncio.AbstractEventLoop,
    tls: TLSConfig,
    http: HTTPConfig,
    http2: HTTP2Config,
    certificates: Certificates,
    factory: ConnectionFactory,
    *,
    datagrams: bool,
) -> MakeListener:
    try:
        # Else the first connection would wait for the import.
        import djserve.protocols.http3.connection  # noqa: F401
        from djserve.net.quic.certificate import QUICCertificates
        from djserve.net.quic.listener import QUICListener
    except ImportError as error:
        package = "pylsqpack" if error.name == "pylsqpack" else "aioquic"
        raise missing_package("HTTP3", package) from error

    served = QUICCertificates(tls, http2, certificates, datagrams=datagrams)
    limit, timeout = http2.http2_stream_limit, http.header_timeout
    return lambda sock, relay: QUICListener(
        loop, sock, served, factory.open_streams, limit, timeout, relay
    )


def _open_relay(
    loop: asyncio.AbstractEventLoop,
    folder: str,
    receive: Callable[[str, bytes, Any], None],
) -> Relay | None:
    from djserve.net.quic.relay import Relay

    try:
        return Relay(loop, folder, receive)
    except OSError as error:
        problem = ListenError(folder, error.strerror or str(error))
        logger.error("This worker serves no HTTP/3: %s", problem)
        return None
