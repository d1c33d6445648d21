"""The answer to tls-alpn-01, by the text of RFC 8737."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

from acme import challenges, messages
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from josepy.jwk import JWKRSA

from djserve.acme.tls_alpn import TLSALPN01, make_certificate

OID = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
AUTHORIZATION = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ.thumbprint"


def test_certificate_has_one_name_and_the_digest(tmp_path: Path) -> None:
    pem = make_certificate("a.example.com", AUTHORIZATION)
    certificate = x509.load_pem_x509_certificate(pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    identifier = certificate.extensions.get_extension_for_oid(OID)
    digest = hashlib.sha256(AUTHORIZATION.encode()).digest()

    assert names.value.get_values_for_type(x509.DNSName) == ["a.example.com"]
    assert identifier.critical
    assert identifier.value.public_bytes() == b"\x04\x20" + digest
    path = tmp_path / "answer.pem"
    path.write_bytes(pem)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)


def test_library_takes_the_challenge_as_one_that_it_knows() -> None:
    token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
    offered = {"type": "tls-alpn-01", "url": "https://a/1", "token": token}
    body = messages.ChallengeBody.from_json(offered)
    key = JWKRSA(key=rsa.generate_private_key(65537, 2048))
    response, content = body.response_and_validation(key)

    assert isinstance(body.chall, TLSALPN01)
    assert isinstance(body.chall, challenges.KeyAuthorizationChallenge)
    assert content.startswith(f"{token}.")
    assert response.verify(body.chall, key.public_key())
