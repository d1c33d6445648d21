"""The challenge tls-alpn-01 (RFC 8737), which the library does not know any more.

Imports the library: for the process of an order alone.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from acme.challenges import (
    Challenge,
    ChallengeResponse,
    KeyAuthorizationChallenge,
    KeyAuthorizationChallengeResponse,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from djserve.acme.folder import private_pem

if TYPE_CHECKING:
    from josepy.jwk import JWK

# RFC 8737 section 6.1.
_ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")

_LIFE = timedelta(days=7)


@ChallengeResponse.register
class TLSALPN01Response(KeyAuthorizationChallengeResponse):
    """What tells the authority that it may look."""

    typ = "tls-alpn-01"


@Challenge.register
class TLSALPN01(KeyAuthorizationChallenge):
    """What the authority offers."""

    response_cls = TLSALPN01Response
    typ = TLSALPN01Response.typ

    def validation(self, account_key: JWK, **kwargs: Any) -> str:
        """Return the text whose digest the certificate has."""
        return self.key_authorization(account_key)


def make_certificate(domain: str, key_authorization: str) -> bytes:
    """Return the key and the certificate that answer for a name (section 3)."""
    digest = hashlib.sha256(key_authorization.encode("ascii")).digest()
    # An OCTET STRING of DER, of 32 bytes.
    identifier = x509.UnrecognizedExtension(_ACME_IDENTIFIER, b"\x04\x20" + digest)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "acme challenge")])
    names = x509.SubjectAlternativeName([x509.DNSName(domain)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(names, critical=False)
        .add_extension(identifier, critical=True)
        .sign(key, hashes.SHA256())
    )
    return private_pem(key) + certificate.public_bytes(Encoding.PEM)
