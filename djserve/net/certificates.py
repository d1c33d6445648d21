"""Certificate files -> the contexts of a server's listeners, renewed while it serves.

A listener keeps one context for its life. That passes each handshake on to the one that
suits the name asked for (SNI, RFC 6066 section 3). A reload replaces those; connections
that stand are not touched.
"""

from __future__ import annotations

import logging
import os
import ssl
from typing import TYPE_CHECKING

from cryptography import x509

from djserve.errors import ConfigError
from djserve.net.development import (
    DevelopmentCertificate as DevelopmentCertificate,
)
from djserve.net.development import (
    development_certificate as development_certificate,
)
from djserve.net.development import explain_trust as explain_trust
from djserve.net.tls import ServerContext, server_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from djserve.conf.schema import TLSConfig

logger = logging.getLogger("djserve.net")

_VERIFY_MODES = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


class Certificates:
    """The certificates of one server. Raises ConfigError where they cannot be used.

    ``context`` is what listeners are opened with.
    """

    def __init__(self, config: TLSConfig, alpn: Sequence[str]) -> None:
        self._config = config
        self._alpn = alpn
        self._checked_at: float | None = None
        self._state = self._read_state()
        self._default, self._by_name = self._load()
        self.context = self._build(config.certfile or "", config.keyfile)
        self.context.sni_callback = self._choose

    def reload(self) -> bool:
        """Load all files again; where one is wrong, log it and keep what is in use."""
        self._state = self._read_state()
        try:
            self._default, self._by_name = self._load()
        except ConfigError as error:
            logger.error("Kept the certificates in use: %s", error)
            return False
        logger.info("Loaded the certificates again")
        return True

    def tick(self, now: float) -> None:
        """Load the files again if they have changed (interfaces.Ticking)."""
        interval = self._config.certificate_check_interval
        if self._checked_at is None:
            self._checked_at = now
        elif 0 < interval <= now - self._checked_at:
            self._checked_at = now
            if self._read_state() != self._state:
                self.reload()

    def choose(self, name: str | None) -> ServerContext:
        """Return the context for the name that a client asks for."""
        if name is None:
            return self._default
        name = name.lower()
        wildcard = "*." + name.partition(".")[2]
        return self._by_name.get(name) or self._by_name.get(wildcard) or self._default

    def _choose(
        self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> None:
        connection.context = self.choose(name)

    def _load(self) -> tuple[ServerContext, dict[str, ServerContext]]:
        config = self._config
        assert config.certfile is not None
        default = self._build(config.certfile, config.keyfile)
        by_name: dict[str, ServerContext] = {}
        for context in (default, *(self._build(path) for path in config.sni_certfiles)):
            for name in _names(context):
                by_name.setdefault(name, context)
        return default, by_name

    def _build(self, certfile: str, keyfile: str | None = None) -> ServerContext:
        config = self._config
        context = server_context(
            certfile, keyfile, password=config.keyfile_password, alpn=self._alpn
        )
        if config.client_ca_file is not None:
            try:
                context.load_verify_locations(config.client_ca_file)
            except OSError as error:
                raise ConfigError(
                    [f"TLS: {config.client_ca_file} holds no authorities: {error}"]
                ) from error
        context.verify_mode = _VERIFY_MODES[config.client_certificates]
        return context

    def _paths(self) -> Iterator[str]:
        config = self._config
        for path in (config.certfile, config.keyfile, config.client_ca_file):
            if path is not None:
                yield path
        yield from config.sni_certfiles

    def _read_state(self) -> list[tuple[int, int, int] | None]:
        """Return what changes whenever a file is written or replaced."""
        return [_file_state(path) for path in self._paths()]


def _file_state(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _names(context: ServerContext) -> list[str]:
    """Return the host names that a context's certificate is for."""
    if context.server_cert is None:
        return []
    certificate = x509.load_pem_x509_certificate(context.server_cert.encode("ascii"))
    try:
        extension = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in extension.value.get_values_for_type(x509.DNSName)]
