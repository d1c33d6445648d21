"""What the ACME library lacks: a challenge, and what an authority says of its limits.

The challenge is tls-alpn-01 (RFC 8737), which the library does not know any more.
Imports the library: for the process of an order alone.
"""

from __future__ import annotations

import hashlib
import time
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from acme import client, messages
from acme.challenges import (
    Challenge,
    ChallengeResponse,
    KeyAuthorizationChallenge,
    KeyAuthorizationChallengeResponse,
)
from cryptography import x509

from djserve.acme.folder import self_sign

if TYPE_CHECKING:
    import requests
    from josepy.jwk import JWK

# RFC 8737 section 6.1.
_ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")

_LIFE = timedelta(days=7)

# RFC 8555 section 6.5: a nonce may be refused at any time, and the request is to be
# sent again with the new one. Each try is two of the library's.
NONCE_TRIES = 5

# RFC 8555 section 6.6, RFC 9110 section 10.2.3.
_LIMITED = (429, 503)


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
    name = x509.NameAttribute(x509.NameOID.COMMON_NAME, "acme challenge")
    return self_sign(name, [domain], _LIFE, identifier)


class Network(client.ClientNetwork):
    """A client that repeats what is refused for its nonce, and notes Retry-After."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.retry_after: float | None = None
        """The seconds that the last refusal has asked for, None if it has not."""
        self.session.hooks["response"].append(self._note)

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        for _ in range(NONCE_TRIES - 1):
            try:
                return super().post(*args, **kwargs)
            except messages.Error as error:
                if error.code != "badNonce":
                    raise
        return super().post(*args, **kwargs)

    def _note(self, response: requests.Response, *args: Any, **kwargs: Any) -> None:
        if response.status_code in _LIMITED:
            text = response.headers.get("Retry-After", "")
            self.retry_after = read_retry_after(text, time.time())


def read_retry_after(text: str, now: float) -> float | None:
    """Return the seconds to wait: of a number, or until a date (RFC 9110 10.2.3)."""
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except ValueError:
        return None
