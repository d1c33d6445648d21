"""HTTP/3 beside each TLS address: UDP sockets, their certificate, their offer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.conf.extras import missing_package
from djserve.errors import ListenError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from djserve.conf.schema import HTTP2Config, HTTPConfig, TLSConfig
    from djserve.net.certificates import Certificates
    from djserve.net.listeners import Listener
    from djserve.net.quic.listener import QUICListener
    from djserve.server.factory import ConnectionFactory

    OpenBeside = Callable[[Iterable[Listener]], list[QUICListener]]


def prepare_quic(
    loop: asyncio.AbstractEventLoop,
    tls: TLSConfig,
    http: HTTPConfig,
    http2: HTTP2Config,
    certificates: Certificates,
    factory: ConnectionFactory,
) -> OpenBeside:
    """Return what listens beside each of some listeners that has a TCP port.

    That raises ListenError; then none stays open. Raises ConfigError if aioquic is
    missing, or cannot use the certificate.
    """
    try:
        # Else the first connection would wait for the import.
        import djserve.protocols.http3.connection  # noqa: F401
        from djserve.net.quic.certificate import follow_certificates
        from djserve.net.quic.listener import QUICListener
        from djserve.net.quic.sockets import open_datagram_socket
    except ImportError as error:
        package = "pylsqpack" if error.name == "pylsqpack" else "aioquic"
        raise missing_package("HTTP3", package) from error

    configure = follow_certificates(tls, http2, certificates)
    configure()

    def open_beside(listeners: Iterable[Listener]) -> list[QUICListener]:
        opened: list[QUICListener] = []
        try:
            for listener in listeners:
                port = listener.port
                if port is None:
                    continue
                sock = open_datagram_socket(listener.address)
                opened.append(
                    QUICListener(
                        loop,
                        sock,
                        configure,
                        factory.open_streams,
                        http2.http2_stream_limit,
                        http.header_timeout,
                    )
                )
                factory.offer_http3(port)
        except ListenError:
            for quic in opened:
                quic.stop()
            raise
        return opened

    return open_beside
