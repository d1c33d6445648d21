"""Requests are judged by the rules of HTTP/2."""

from __future__ import annotations

import pytest

from djserve.conf.schema import HTTPConfig
from djserve.protocols.http3.errors import ErrorCode, HTTP3Error
from djserve.protocols.http3.request import build_head, check_trailers, parse_request
from tests.protocols.http3.conftest import GET


def test_head_has_the_version() -> None:
    head = build_head(parse_request(GET, HTTPConfig()), is_complete=True)

    assert (head.http_version, head.method, head.has_body) == ("3", "GET", False)


@pytest.mark.parametrize(
    "field", [(b"Upper", b"x"), (b"connection", b"close"), (b":path", b"/")]
)
def test_malformed_request_is_of_its_stream(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(HTTP3Error) as caught:
        parse_request([*GET, (b"a", b"b"), field], HTTPConfig())

    assert caught.value.code is ErrorCode.MESSAGE_ERROR
    assert caught.value.is_of_stream


def test_refusal_has_a_status() -> None:
    request = parse_request([*GET, (b"content-length", b"-1")], HTTPConfig())

    assert request.refusal is not None
    assert request.refusal.status == 400


def test_trailers_have_no_pseudo_fields() -> None:
    check_trailers([(b"x-sum", b"7")])
    with pytest.raises(HTTP3Error):
        check_trailers([(b":path", b"/")])
