"""Certificate files -> what aioquic's TLS takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from djserve.errors import ConfigError
from djserve.net.quic.ids import ID_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.conf.schema import HTTP2Config, TLSConfig
    from djserve.net.certificates import Certificates

# As long as a peer with open streams may be silent; without streams the connection is
# ended earlier, by KEEP_ALIVE_TIMEOUT.
IDLE_TIMEOUT = 60.0

_KEY = re.compile(
    rb"-----BEGIN ([A-Z]+ )*PRIVATE KEY-----.+?-----END ([A-Z]+ )*PRIVATE KEY-----",
    re.DOTALL,
)
# RFC 9221 section 3: as much as fits any packet.
_DATAGRAM_FRAME_SIZE = 65535

_PARAMETERS = re.compile(
    rb"-----BEGIN EC PARAMETERS-----.+?-----END EC PARAMETERS-----\n?", re.DOTALL
)


def quic_configuration(
    tls: TLSConfig, limits: HTTP2Config, *, datagrams: bool = False
) -> QuicConfiguration:
    """Load the certificate for QUIC. Raises ConfigError if it cannot be used.

    The windows are those of HTTP/2; ``datagrams`` are taken from the peer (RFC 9221).
    """
    configuration = QuicConfiguration(
        alpn_protocols=["h3"],
        is_client=False,
        connection_id_length=ID_LENGTH,
        idle_timeout=IDLE_TIMEOUT,
        max_data=limits.http2_connection_window_size,
        max_stream_data=limits.http2_stream_window_size,
        max_datagram_frame_size=_DATAGRAM_FRAME_SIZE if datagrams else None,
    )
    try:
        chain = _read(tls.certfile or "")
        key = _read(tls.keyfile) if tls.keyfile else chain
        match = _KEY.search(key)
        if match is None:
            raise ValueError("there is no private key")
        # A password for a key without one is a fault to cryptography.
        password = (tls.keyfile_password or "").encode()
        is_encrypted = b"ENCRYPTED" in match.group()
        certificates = x509.load_pem_x509_certificates(chain)
        configuration.certificate = certificates[0]
        configuration.certificate_chain = certificates[1:]
        configuration.private_key = load_pem_private_key(
            match.group(), password if is_encrypted else None
        )
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(
            [f"HTTP3: the certificate cannot be used: {error}"]
        ) from error
    return configuration


def follow_certificates(
    tls: TLSConfig,
    limits: HTTP2Config,
    certificates: Certificates,
    *,
    datagrams: bool = False,
) -> Callable[[], tuple[QuicConfiguration, str | None]]:
    """Return what gives the configuration for the certificate that is in use.

    With it comes the certificate in PEM.
    """
    made: tuple[QuicConfiguration, str | None] | None = None
    source: object = None

    def configure() -> tuple[QuicConfiguration, str | None]:
        nonlocal made, source
        context = certificates.choose(None)
        if made is None or context is not source:
            source = context
            made = (
                quic_configuration(tls, limits, datagrams=datagrams),
                context.server_cert,
            )
        return made

    return configure


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return _PARAMETERS.sub(b"", file.read())
