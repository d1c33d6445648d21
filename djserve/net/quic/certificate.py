"""Certificate files -> what aioquic's TLS takes."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from djserve.errors import ConfigError
from djserve.net.quic.ids import ID_LENGTH

if TYPE_CHECKING:
    from djserve.conf.schema import HTTP2Config, TLSConfig
    from djserve.net.certificates import Certificates
    from djserve.net.tls import ServerContext

logger = logging.getLogger("djserve.net")

# As long as a peer with open streams may be silent; without streams the connection is
# ended earlier, by KEEP_ALIVE_TIMEOUT.
IDLE_TIMEOUT = 60.0

_KEY = re.compile(
    rb"-----BEGIN ([A-Z]+ )*PRIVATE KEY-----.+?-----END ([A-Z]+ )*PRIVATE KEY-----",
    re.DOTALL,
)
# RFC 9221 section 3: as much as fits any packet.
_DATAGRAM_FRAME_SIZE = 65535

_CURVES = (SECP256R1, SECP384R1)

_PARAMETERS = re.compile(
    rb"-----BEGIN EC PARAMETERS-----.+?-----END EC PARAMETERS-----\n?", re.DOTALL
)


class Served(NamedTuple):
    """What new connections are configured with: for one certificate."""

    configuration: QuicConfiguration
    certificate: str | None
    """The server's certificate in PEM."""
    context: ServerContext
    """What serves the same certificate over TCP."""


class QUICCertificates:
    """The certificates that TLS over TCP has in use, for QUIC.

    Raises ConfigError if one cannot be used. The windows of the configurations are
    those of HTTP/2; ``datagrams`` are taken from the peer (RFC 9221).
    """

    def __init__(
        self,
        tls: TLSConfig,
        limits: HTTP2Config,
        certificates: Certificates,
        *,
        datagrams: bool = False,
    ) -> None:
        self._tls = tls
        self._limits = limits
        self._certificates = certificates
        self._datagrams = datagrams
        self._by_file: dict[str, Served] = {}
        self.has_names = bool(tls.sni_certfiles)
        """Whether the name that a client asks for may choose another certificate."""
        for context in certificates.contexts:
            self._find(context)

    def choose(self, name: str | None = None) -> Served:
        """Return what serves the name that a client asks for."""
        return self._find(self._certificates.choose(name))

    def _find(self, context: ServerContext) -> Served:
        served = self._by_file.get(context.certfile)
        if served is not None and served.context is context:
            return served
        try:
            served = self._load(context)
        except ConfigError as error:
            if served is None:
                raise
            # The files have changed once more since TLS has loaded them.
            logger.error("Kept the certificate in use for HTTP/3: %s", error)
            served = served._replace(context=context)
        self._by_file[context.certfile] = served
        return served

    def _load(self, context: ServerContext) -> Served:
        configuration = quic_configuration(
            context.certfile,
            context.keyfile,
            self._tls.keyfile_password,
            self._limits,
            datagrams=self._datagrams,
        )
        return Served(configuration, context.server_cert, context)


def quic_configuration(
    certfile: str,
    keyfile: str | None,
    password: str | None,
    limits: HTTP2Config,
    *,
    datagrams: bool = False,
) -> QuicConfiguration:
    """Load a certificate for QUIC. Raises ConfigError if it cannot be used."""
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
        chain = x509.load_pem_x509_certificates(_read(certfile))
        key = _load_key(keyfile or certfile, password)
        if _encode(key.public_key()) != _encode(chain[0].public_key()):
            raise ValueError("the private key is not that of the certificate")
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(
            [f"HTTP3: the certificate in {certfile} cannot be used: {error}"]
        ) from error
    configuration.certificate, *configuration.certificate_chain = chain
    configuration.private_key = key
    return configuration


def _load_key(path: str, password: str | None) -> Any:
    match = _KEY.search(_read(path))
    if match is None:
        raise ValueError("there is no private key")
    # A password for a key without one is a fault to cryptography.
    is_encrypted = b"ENCRYPTED" in match.group()
    key = load_pem_private_key(
        match.group(), (password or "").encode() if is_encrypted else None
    )
    curve = getattr(key, "curve", None)
    if curve is not None and not isinstance(curve, _CURVES):
        # aioquic would refuse each client, with an alert.
        raise ValueError(f"aioquic signs nothing with a key on the curve {curve.name}")
    return key


def _encode(key: Any) -> bytes:
    data: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return data


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return _PARAMETERS.sub(b"", file.read())
