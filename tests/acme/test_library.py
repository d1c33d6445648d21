"""The answer to tls-alpn-01 by the text of RFC 8737, and what an authority refuses."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path
from typing import Any

import pytest
from acme import challenges, client, messages
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from josepy.jwk import JWKRSA

from djserve.acme.library import (
    NONCE_TRIES,
    TLSALPN01,
    Network,
    make_certificate,
    read_retry_after,
)

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


MONDAY = 1_700_000_000.0


def refusal(code: str) -> messages.Error:
    make: Any = messages.Error
    error: messages.Error = make(typ=f"urn:ietf:params:acme:error:{code}", detail="no")
    return error


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the library's own ``post`` raises or returns, one after the other."""
    answers: list[Any] = []

    def post(self: Network, *args: Any, **kwargs: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(client.ClientNetwork, "post", post)
    return answers


def test_refused_nonce_is_tried_again_at_once(answers: list[Any]) -> None:
    answers += [refusal("badNonce")] * (NONCE_TRIES - 1) + ["answer"]

    assert Network().post("url", None) == "answer"  # type: ignore[comparison-overlap]
    assert answers == []


def test_nonces_that_are_refused_for_ever_are_an_error(answers: list[Any]) -> None:
    answers += [refusal("badNonce")] * (NONCE_TRIES + 1)
    with pytest.raises(messages.Error, match="badNonce"):
        Network().post("url", None)

    assert len(answers) == 1


def test_other_refusals_are_not_repeated(answers: list[Any]) -> None:
    answers += [refusal("rateLimited"), "answer"]
    with pytest.raises(messages.Error, match="rateLimited"):
        Network().post("url", None)

    assert answers == ["answer"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3600", 3600.0),
        ("0", 0.0),
        ("Tue, 14 Nov 2023 23:13:20 GMT", 3600.0),
        ("Tue, 14 Nov 2000 23:13:20 GMT", 0.0),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
    ],
)
def test_wait_is_a_number_or_a_date(text: str, seconds: float | None) -> None:
    assert read_retry_after(text, MONDAY) == seconds


@pytest.mark.parametrize(("status", "wait"), [(429, 90.0), (503, 90.0), (403, None)])
def test_wait_is_taken_from_refusals_for_a_limit(
    status: int, wait: float | None
) -> None:
    class Response:
        status_code = status
        headers = {"Retry-After": "90"}
        text = "{}"

    network = Network()
    for hook in network.session.hooks["response"]:
        hook(Response())  # type: ignore[arg-type]

    assert network.retry_after == wait
