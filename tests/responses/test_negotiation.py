"""What is compressed for whom, by the sections of RFC 9110."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from djserve.conf.parser import parse
from djserve.interfaces import RequestHead
from djserve.responses.codecs import find_encoders
from djserve.responses.negotiation import Negotiation

HTML = (b"Content-Type", b"text/html; charset=utf-8")


@pytest.fixture
def negotiation() -> Negotiation:
    config = parse({}).compression
    return Negotiation(
        find_encoders(config.compression_codings),
        config.compression_types,
        config.compression_minimum_size,
    )


def head(*fields: tuple[bytes, bytes], method: str = "GET") -> RequestHead:
    return RequestHead(method, b"/", b"", list(fields), "1.1")


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (b"gzip, deflate, br, zstd", b"zstd"),
        (b"gzip, deflate, br", b"br"),
        (b"gzip", b"gzip"),
        (b"GZIP", b"gzip"),
        (b"gzip;q=1.0, br;q=0.5", b"gzip"),
        (b"zstd;q=0, br;q=0, gzip", b"gzip"),
        (b"*", b"zstd"),
        (b"*;q=0.5, gzip", b"gzip"),
        (b"zstd;q=0, *", b"br"),
        (b"gzip;q=0", b""),
        (b"identity", b""),
        (b"identity;q=1, gzip;q=0.5", b""),
        (b"identity;q=0", b""),
        (b"deflate, compress", b""),
        (b"gzip;q=nonsense", b""),
        (b"gzip;q=2", b""),
        (b"", b""),
    ],
)
def test_coding_is_the_clients_choice(
    negotiation: Negotiation, accepted: bytes, coding: bytes
) -> None:
    assert negotiation.choose(head((b"accept-encoding", accepted))) == coding


def test_repeated_fields_are_one_list(negotiation: Negotiation) -> None:
    fields = ((b"accept-encoding", b"zstd;q=0"), (b"accept-encoding", b"gzip"))
    assert negotiation.choose(head(*fields)) == b"gzip"
    assert negotiation.choose(head()) == b""


def test_head_has_no_content(negotiation: Negotiation) -> None:
    fields = (b"accept-encoding", b"gzip")
    assert negotiation.choose(head(fields, method="HEAD")) == b""
    assert negotiation.choose(head(fields, method="POST")) == b"gzip"


@pytest.mark.parametrize("credential", [b"cookie", b"authorization"])
@pytest.mark.parametrize(
    ("site", "coding"),
    [
        (b"cross-site", b""),
        (b"same-site", b""),
        (b"same-origin", b"gzip"),
        (b"none", b"gzip"),
    ],
)
def test_another_sites_request_with_credentials_is_not_compressed(
    negotiation: Negotiation, credential: bytes, site: bytes, coding: bytes
) -> None:
    asked = [(b"accept-encoding", b"gzip"), (b"sec-fetch-site", site)]

    assert negotiation.choose(head(*asked, (credential, b"a=b"))) == coding
    assert negotiation.choose(head(*asked)) == b"gzip"


@pytest.mark.parametrize(
    ("content_type", "is_wanted"),
    [
        (b"text/html", True),
        (b"TEXT/Plain; charset=utf-8", True),
        (b"text/event-stream", True),
        (b"application/json", True),
        (b"application/problem+json", True),
        (b"application/atom+xml;type=feed", True),
        (b"image/svg+xml", True),
        (b"image/png", False),
        (b"video/mp4", False),
        (b"application/zip", False),
        (b"application/octet-stream", False),
        (b"", False),
        (b"nonsense", False),
    ],
)
def test_types_are_those_of_the_setting(
    negotiation: Negotiation, content_type: bytes, is_wanted: bool
) -> None:
    plan = negotiation.plan(200, [(b"content-type", content_type)], 1000, b"gzip")
    assert (plan is not None) is is_wanted


@pytest.mark.parametrize("status", [204, 205, 206, 304])
def test_statuses_without_a_whole_content_are_left_alone(
    negotiation: Negotiation, status: int
) -> None:
    assert negotiation.plan(status, [HTML], 1000, b"gzip") is None


@pytest.mark.parametrize("status", [200, 201, 404, 500])
def test_others_are_not(negotiation: Negotiation, status: int) -> None:
    assert negotiation.plan(status, [HTML], 1000, b"gzip") is not None


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [HTML, (b"Content-Encoding", b"gzip")],
        [HTML, (b"Content-Encoding", b"identity")],
        [HTML, (b"Content-Range", b"bytes 0-1/2")],
        [HTML, (b"Content-Digest", b"sha-256=:a:")],
        [HTML, (b"Cache-Control", b"max-age=0, No-Transform")],
        [HTML, (b"Cache-Control", b"public"), (b"cache-control", b"no-transform")],
        [HTML, (b"Content-Length", b"999")],
        [HTML, (b"Content-Length", b"1000"), (b"Content-Length", b"1000")],
        [HTML, (b"Content-Length", b"+1000")],
        [HTML, (b"Content-Length",)],
        [HTML, (None, b"a")],
        [HTML, 7],
    ],
)
def test_what_says_no_or_is_wrong_is_left_alone(
    negotiation: Negotiation, fields: Any
) -> None:
    assert negotiation.plan(200, fields, 1000, b"gzip") is None


def test_short_content_is_left_alone(negotiation: Negotiation) -> None:
    length = (b"Content-Length", b"499")

    assert negotiation.plan(200, [HTML], 499, b"gzip") is None
    assert negotiation.plan(200, [HTML, length], None, b"gzip") is None
    assert negotiation.plan(200, [HTML], 500, b"gzip") is not None
    assert negotiation.plan(200, [HTML], None, b"gzip") is not None


def test_fields_are_those_of_the_compressed_content(negotiation: Negotiation) -> None:
    headers = [
        HTML,
        (b"Content-Length", b"1000"),
        (b"ETag", b'"a"'),
        (b"Accept-Ranges", b"bytes"),
        (b"Set-Cookie", b"a=b"),
        (b"Set-Cookie", b"c=d"),
    ]
    plan = negotiation.plan(200, headers, 1000, b"gzip")
    assert plan is not None
    vary = (b"vary", b"Accept-Encoding")
    cookies = headers[-2:]

    coding = (b"content-encoding", b"gzip")
    assert plan.fields == [HTML, (b"ETag", b'W/"a"'), *cookies, vary, coding]
    assert plan.plain == [*headers, vary]
    assert plan.length == 1000
    weak = negotiation.plan(200, [HTML, (b"etag", b'W/"a"')], None, b"br")
    assert weak is not None
    assert (b"etag", b'W/"a"') in weak.fields


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ([b"Cookie"], [b"Cookie, Accept-Encoding"]),
        ([b"Cookie", b"Origin"], [b"Cookie, Origin, Accept-Encoding"]),
        ([b"accept-encoding, Cookie"], [b"accept-encoding, Cookie"]),
        ([b"*"], [b"*"]),
        ([b""], [b"Accept-Encoding"]),
    ],
)
def test_vary_is_completed(
    negotiation: Negotiation, given: list[bytes], sent: list[bytes]
) -> None:
    fields = [HTML, *[(b"Vary", value) for value in given]]
    plan = negotiation.plan(200, fields, 1000, b"gzip")
    assert plan is not None
    pick: Callable[[Any], list[bytes]] = lambda fields: [  # noqa: E731
        value for name, value in fields if name.lower() == b"vary"
    ]
    assert pick(plan.fields) == pick(plan.plain) == sent


VARY = (b"vary", b"Accept-Encoding")
TAG = (b"ETag", b'"a"')
WEAK = (b"ETag", b'W/"a"')


@pytest.mark.parametrize(
    ("known", "given", "sent"),
    [
        (b"", [], [VARY]),
        (b"", [(b"Vary", b"Cookie")], [(b"vary", b"Cookie, Accept-Encoding")]),
        (b'W/"a"', [TAG], [WEAK, VARY]),
        (b'"b", W/"a"', [TAG], [WEAK, VARY]),
        (b'"a"', [TAG], [TAG, VARY]),
        (b'W/"b"', [TAG], [TAG, VARY]),
        (b'W/"a"', [WEAK], [WEAK, VARY]),
        (b"*", [TAG], [TAG, VARY]),
        # What is never compressed has no variants.
        (b"", [(b"Content-Type", b"image/png")], None),
        (b"", [TAG, (b"Cache-Control", b"no-transform")], None),
        (b"", [(b"Content-Encoding", b"gzip")], None),
        # What is wrong, the stream says.
        (b"", [(None, b"a")], None),
    ],
)
def test_fields_of_304_are_those_of_its_200(
    negotiation: Negotiation, known: bytes, given: Any, sent: Any
) -> None:
    request = head((b"if-none-match", known)) if known else head()
    assert negotiation.revise(given, request) == (given if sent is None else sent)
