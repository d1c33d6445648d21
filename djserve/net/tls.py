"""Certificate files -> a server's TLS context; a finished handshake -> the scope."""

from __future__ import annotations

import re
import ssl
import struct
from functools import cache
from typing import TYPE_CHECKING, Any

from djserve.errors import ConfigError
from djserve.net.tls_records import (
    CHANGE_CIPHER_SPEC,
    RecordGate,
    TooManyEmptyRecords,
)
from djserve.postponed import pattern
from djserve.system import read_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 section 4.2),
# which is within what RFC 9113 section 9.2.2 allows HTTP/2. TLS 1.3 keeps its own list.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

# What OpenSSL reads at a time, and in all, after our own close_notify.
_CLOSING_SIZE = 1024
_CLOSING_LIMIT = 16 * 1024

# RFC 7301 section 3.1.
_ALPN_EXTENSION = 16

_CERTIFICATE = pattern(
    rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\r?\n?", re.DOTALL
)
_PRIVATE_KEY = pattern(rb"-----BEGIN ([A-Z]+ )*PRIVATE KEY-----")
_ENCRYPTED_KEY = pattern(rb"ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED", re.M)

_VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}

# RFC 4514 section 3; other types are written by the name that OpenSSL has for them.
_ATTRIBUTE_TYPES = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
_SPECIAL = pattern(r'([\\",+;<>]|^[ #]| $)')


class _Session(ssl.SSLObject):
    """One connection's TLS: alerts go out, and a peer cannot waste OpenSSL's time.

    asyncio and uvloop close at the first error and drop what OpenSSL wants to say of it
    (RFC 8446 section 6.2): the client sees a reset instead of a reason. Here the
    handshake seems to wait for the client once more, at which the loop sends what there
    is. It fails with whatever the client does next, or by the handshake's timeout.

    What is read goes through a ``RecordGate``.
    """

    gate: RecordGate
    outgoing: ssl.MemoryBIO
    _sslobj: Any
    _error: ssl.SSLError | None = None
    _closing_size = 0

    def do_handshake(self) -> None:
        if self._error is not None:
            raise self._error
        try:
            self._do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            if not self.outgoing.pending:
                raise
            # Without what refers to this object.
            self._error = error.with_traceback(None)
            raise ssl.SSLWantReadError from error

    def _do_handshake(self) -> None:
        # Without a record OpenSSL has nothing to do, and is slow to say so.
        while self.gate.let_in():
            if self.gate.kind == CHANGE_CIPHER_SPEC:
                # Nor with this one, behind which the next belongs to the handshake.
                self.gate.let_in()
            try:
                return self._sslobj.do_handshake()  # type: ignore[no-any-return]
            except ssl.SSLWantReadError:
                pass
        raise ssl.SSLWantReadError

    def unwrap(self) -> Any:
        """Wait for the peer's close_notify, behind which nothing else is expected."""
        # A peer that sends more fails, by what is missing: its records are broken.
        self._closing_size += self.gate.let_in_end(_CLOSING_SIZE)
        if self._closing_size > _CLOSING_LIMIT:
            raise TooManyEmptyRecords
        return super().unwrap()


class ServerContext(ssl.SSLContext):
    """A server's TLS context that knows its own certificate, for the ASGI scope."""

    sslobject_class = _Session
    server_cert: str | None = None
    """The server's certificate in PEM."""
    certfile = ""
    keyfile: str | None = None
    """The files that it was loaded from."""

    def watch_messages(self, callback: Callable[..., None]) -> None:
        """Have each message of a handshake told, with the numbers that it has on wire.

        ``ssl`` makes six members of enums for each, which takes a tenth of a handshake
        (benchmark: http1_tls_new); this is how it hands its own function on.
        """
        super(ssl.SSLContext, ssl.SSLContext)._msg_callback.__set__(self, callback)  # type: ignore[misc]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        let_in = ssl.MemoryBIO()
        wrapped: Any = super().wrap_bio(
            let_in, outgoing, server_side, server_hostname, session
        )
        wrapped.gate, wrapped.outgoing = RecordGate(incoming, let_in), outgoing
        inner = wrapped._sslobj
        wrapped.read = wrapped.gate.connect(inner.read, inner.pending)
        # Without a call of Python's for each (benchmark: http1_tls).
        wrapped.write, wrapped.pending = inner.write, inner.pending
        return wrapped  # type: ignore[no-any-return]


def server_context(
    certfile: str,
    keyfile: str | None = None,
    *,
    password: str | None = None,
    alpn: Sequence[str] = ("http/1.1",),
) -> ServerContext:
    """Make a server's context from PEM files: TLS 1.2 or newer, and these protocols.

    ``keyfile`` may be left out if the certificate's file holds the key too. Raises
    ConfigError with one line if a file is missing, is not PEM, or does not match.
    """
    certificate = _read(certfile, "certificate")
    key = _read(keyfile, "private key") if keyfile else certificate
    match = _CERTIFICATE.search(certificate)
    if match is None:
        raise _problem(f"{certfile} holds no certificate in PEM")
    if not _PRIVATE_KEY.search(key):
        raise _problem(f"{keyfile or certfile} holds no private key in PEM")
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    # RFC 9113 section 9.2.1: no compression and no renegotiation.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(list(alpn))
    # RFC 8446 section 4.6.1: clients use a ticket once, and get another by that. Each
    # takes a tenth of a handshake (benchmark: http1_tls_new).
    context.num_tickets = 1
    try:
        # The callable keeps OpenSSL from asking for a password on the terminal.
        context.load_cert_chain(certfile, keyfile, password=lambda: password or "")
    except (OSError, ValueError) as error:
        is_encrypted = _ENCRYPTED_KEY.search(key) is not None
        raise _load_problem(
            error, certfile, keyfile or certfile, is_encrypted, password
        ) from error
    context.server_cert = match.group().decode("ascii", "replace")
    context.certfile, context.keyfile = certfile, keyfile
    return context


def offered_protocols(hello: bytes) -> list[bytes]:
    """Return the protocols that a ClientHello message offers by ALPN, [] without it.

    ``hello`` is the handshake message with its header (RFC 8446 section 4.1.2), which
    OpenSSL has taken for well-formed; one cut short offers nothing.
    """
    try:
        # Type, length, version and random; then session, ciphers and compression.
        position = 4 + 2 + 32
        for size in (1, 2, 1):
            position += size + int.from_bytes(hello[position : position + size], "big")
        end = position + 2 + int.from_bytes(hello[position : position + 2], "big")
        position += 2
        while position + 4 <= end:
            kind, length = struct.unpack_from("!HH", hello, position)
            position += 4
            if kind == _ALPN_EXTENSION:
                return _split_names(hello[position + 2 : position + length])
            position += length
    except struct.error:
        pass
    return []


def _split_names(names: bytes) -> list[bytes]:
    found: list[bytes] = []
    while names:
        found.append(names[1 : 1 + names[0]])
        names = names[1 + names[0] :]
    return found


def cipher_numbers(context: ssl.SSLContext) -> dict[str, int]:
    """Map a context's cipher names to their numbers in the TLS registry."""
    return {cipher["name"]: cipher["id"] & 0xFFFF for cipher in context.get_ciphers()}


def tls_extension(
    ssl_object: ssl.SSLObject, server_cert: str | None, ciphers: dict[str, int]
) -> dict[str, Any]:
    """Describe a finished handshake as the scope's TLS extension (ASGI TLS 0.2)."""
    cipher = ssl_object.cipher()
    leaf = ssl_object.getpeercert(binary_form=True)
    return {
        "server_cert": server_cert,
        "client_cert_chain": _client_chain(ssl_object, leaf) if leaf else [],
        "client_cert_name": _client_name(ssl_object) if leaf else None,
        # A context that verifies clients fails the handshake of those it refuses.
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(ssl_object.version() or ""),
        "cipher_suite": ciphers.get(cipher[0]) if cipher else None,
    }


def pyopenssl_extension(connection: Any) -> dict[str, Any]:
    """Describe a handshake done by pyOpenSSL, as Twisted's TLS endpoints do it."""
    own = connection.get_certificate()
    leaf = connection.get_peer_certificate()
    chain = (connection.get_peer_cert_chain() or [leaf]) if leaf else []
    return {
        "server_cert": _pyopenssl_pem(own) if own else None,
        "client_cert_chain": [_pyopenssl_pem(certificate) for certificate in chain],
        "client_cert_name": (
            leaf.to_cryptography().subject.rfc4514_string() if leaf else None
        ),
        "client_cert_error": None,
        "tls_version": connection.get_protocol_version(),
        "cipher_suite": _all_ciphers().get(connection.get_cipher_name()),
    }


def _pyopenssl_pem(certificate: Any) -> str:
    from OpenSSL import crypto

    return crypto.dump_certificate(crypto.FILETYPE_PEM, certificate).decode("ascii")


@cache
def _all_ciphers() -> dict[str, int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL")
    return cipher_numbers(context)


def _client_chain(ssl_object: ssl.SSLObject, leaf: bytes) -> list[str]:
    # Python 3.13 and newer give the whole chain that the client sent.
    unverified_chain = getattr(ssl_object, "get_unverified_chain", None)
    chain = unverified_chain() if unverified_chain is not None else [leaf]
    return [ssl.DER_cert_to_PEM_cert(certificate) for certificate in chain]


def _client_name(ssl_object: ssl.SSLObject) -> str | None:
    certificate = ssl_object.getpeercert()
    subject: Any = certificate.get("subject") if certificate else None
    return distinguished_name(subject) if subject else None


def distinguished_name(subject: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Write a subject, as ``getpeercert`` gives it, by RFC 4514: last part first."""
    return ",".join(
        "+".join(
            f"{_ATTRIBUTE_TYPES.get(kind, kind)}={_escape(value)}"
            for kind, value in part
        )
        for part in reversed(subject)
    )


def _escape(value: str) -> str:
    return _SPECIAL.sub(r"\\\1", value).replace("\0", "\\00")


def _read(path: str, content: str) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise _problem(
            f"the {content} {path} cannot be read: {error.strerror}"
        ) from error


def _load_problem(
    error: Exception,
    certfile: str,
    keyfile: str,
    is_encrypted: bool,
    password: str | None,
) -> ConfigError:
    if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
        return _problem(f"the private key {keyfile} does not match {certfile}")
    if is_encrypted and password is None:
        return _problem(f"the private key {keyfile} is encrypted and needs a password")
    if is_encrypted:
        return _problem(f"the password does not open the private key {keyfile}")
    return _problem(f"OpenSSL refuses {certfile} with {keyfile}: {error}")


def _problem(text: str) -> ConfigError:
    return ConfigError([f"TLS: {text}"])
