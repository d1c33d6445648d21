"""Certificate files -> the contexts of a server's listeners, renewed while it serves.

A listener keeps one context for its life. That passes each handshake on to the one that
suits the name asked for (SNI, RFC 6066 section 3). A reload replaces those; connections
that stand are not touched.
"""

# Which certificate a client gets, and when it changes
#
# Python asks for a decision in the handshake, after the ClientHello (``sni_callback``,
# which is also called if no name was sent). Four things are decided there, in this
# order:
#
# 1. A client that offers "acme-tls/1" and nothing else is an authority (RFC 8737). It
#    gets the certificate with the answer to its challenge, or the end of the handshake,
#    and never a site's.
# 2. A client that offers protocols, none of them ours, is refused by an alert (RFC 7301
#    section 3.2). OpenSSL would go on without a protocol.
# 3. The name, then the wildcard that covers it. A wildcard stands for one label, so
#    only the first one is replaced.
# 4. Everyone else, also for a name that is not known, gets the first certificate: its
#    own check of the name tells the client what is wrong better than an alert could.
#
# What a client offers is not visible in ``sni_callback``. The message callback has seen
# it just before, in the same call of the handshake, so a field of this object carries
# it over: nothing can come in between.
#
# A reload builds all contexts first and then exchanges them in one assignment. One
# wrong file leaves everything in use, and a certificate never serves with the key of
# another. The state of the files is read before their contents: a file that is written
# between the two is loaded once more, rather than never.

from __future__ import annotations

import logging
import os
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cryptography import x509

from djserve.errors import ConfigError
from djserve.net.local_authority import (
    DevelopmentCertificate as DevelopmentCertificate,
)
from djserve.net.local_authority import (
    development_certificate as development_certificate,
)
from djserve.net.local_authority import explain_trust as explain_trust
from djserve.net.tls import ServerContext, offered_protocols, server_context
from djserve.system import open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from djserve.conf.schema import TLSConfig

logger = logging.getLogger("djserve.net")

_VERIFY_MODES = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}

# RFC 7301 section 3.2.
_NO_APPLICATION_PROTOCOL = 120
_CLIENT_HELLO = 1

# RFC 8737 section 4: a client that offers this offers nothing else.
ACME_PROTOCOL = b"acme-tls/1"


class Certificates:
    """The certificates of one server. Raises ConfigError if they cannot be used.

    ``context`` is what listeners are opened with. ``find_challenge`` returns the file
    of the certificate by which a name answers an authority (RFC 8737), if there is one.
    """

    def __init__(
        self,
        config: TLSConfig,
        alpn: Sequence[str],
        find_challenge: Callable[[str | None], str | None] | None = None,
    ) -> None:
        self._config = config
        self._find_challenge = find_challenge
        self._is_challenge = False
        self._alpn = alpn
        self._checked_at: float | None = None
        self._state = self._read_state()
        self._default, self._by_name = self._load()
        self.context = self._build(config.certfile or "", config.keyfile)
        self.context.sni_callback = self._choose
        # Python has no other way to see what a client offers by ALPN. Only this
        # context has the callback: the one chosen for a connection, which serves it
        # from its ClientHello on, calls nothing.
        self._shares_protocol = True
        self.context.watch_messages(self._read_message)

    @property
    def contexts(self) -> set[ServerContext]:
        """Those that ``choose`` may return."""
        return {self._default, *self._by_name.values()}

    def reload(self) -> bool:
        """Load all files again; if one is wrong, log it and keep what is in use."""
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

    def _read_message(
        self,
        connection: object,
        direction: str,
        version: object,
        content: object,
        kind: int,
        data: bytes,
    ) -> None:
        """See a ClientHello, which ``_choose`` is called for next."""
        if kind == _CLIENT_HELLO and direction == "read":
            offered = offered_protocols(data)
            self._is_challenge = offered == [ACME_PROTOCOL]
            self._shares_protocol = not offered or any(
                name.encode("ascii") in offered for name in self._alpn
            )

    def _choose(
        self, connection: Any, name: str | None, context: ssl.SSLContext
    ) -> int | None:
        if connection.context is not self.context:
            # A second ClientHello, after HelloRetryRequest (RFC 8446 section 4.1.4). It
            # was not seen: what is known is of another client's, come in between.
            return None
        if self._is_challenge and self._find_challenge is not None:
            answer = _answer_challenge(self._find_challenge(name))
            if answer is None:
                return _NO_APPLICATION_PROTOCOL
            connection.context = answer
            return None
        if not self._shares_protocol:
            # Else the handshake would go on without any, and a client that speaks
            # nothing but HTTP/3 or gRPC would fail later, at its first bytes.
            return _NO_APPLICATION_PROTOCOL
        connection.context = self.choose(name)
        return None

    def _load(self) -> tuple[ServerContext, dict[str, ServerContext]]:
        config = self._config
        assert config.certfile is not None
        default = self._build(config.certfile, config.keyfile)
        by_name: dict[str, ServerContext] = {}
        for context in (default, *(self._build(path) for path in config.sni_certfiles)):
            certificate = _parse(context)
            if certificate is None:
                continue
            _warn_of_time(certificate)
            for name in _names(certificate):
                by_name.setdefault(name, context)
        return default, by_name

    def _build(self, certfile: str, keyfile: str | None = None) -> ServerContext:
        config = self._config
        context = server_context(
            certfile, keyfile, password=config.keyfile_password, alpn=self._alpn
        )
        if config.client_ca_file is not None:
            try:
                os.close(open_regular(config.client_ca_file))
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


def _answer_challenge(path: str | None) -> ServerContext | None:
    """Return the context that an authority sees, None if it has not asked for one."""
    if path is None:
        return None
    try:
        return server_context(path, alpn=(ACME_PROTOCOL.decode("ascii"),))
    except ConfigError:
        # Removed since it was looked for: the order has ended.
        return None


def _file_state(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _parse(context: ServerContext) -> x509.Certificate | None:
    if context.server_cert is None:
        return None
    return x509.load_pem_x509_certificate(context.server_cert.encode("ascii"))


def _warn_of_time(certificate: x509.Certificate) -> None:
    """Log a certificate that clients will refuse for its time."""
    now = datetime.now(UTC)
    subject = certificate.subject.rfc4514_string()
    if certificate.not_valid_after_utc < now:
        logger.warning(
            "The certificate of %.100r has expired, at %s: clients will refuse it",
            subject,
            certificate.not_valid_after_utc,
        )
    elif certificate.not_valid_before_utc > now:
        logger.warning(
            "The certificate of %.100r is not valid before %s: clients will refuse it",
            subject,
            certificate.not_valid_before_utc,
        )


def _names(certificate: x509.Certificate) -> list[str]:
    """Return the host names that a certificate is for."""
    try:
        extension = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in extension.value.get_values_for_type(x509.DNSName)]
