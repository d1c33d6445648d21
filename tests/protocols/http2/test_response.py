"""A response's fields: what is sent, how it is encoded, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from djserve.errors import ApplicationError
from djserve.protocols.http2.response import (
    Fields,
    build_block,
    build_fields,
    build_trailers,
    encode_literal,
)


def decode(fields: Fields) -> list[tuple[bytes, bytes]]:
    found = [(n, v) for n, v in Decoder().decode(fields.literal, raw=True)]
    return fields.indexed + found


def test_names_are_lowered_and_values_trimmed() -> None:
    fields = build_fields(200, [(b"X-Test", b" a b\t")], None, b"")

    assert decode(fields) == [(b":status", b"200"), (b"x-test", b"a b")]


def test_length_of_whole_content_is_added() -> None:
    fields = build_fields(200, [], 5, b"me")

    assert decode(fields)[1:] == [(b"server", b"me"), (b"content-length", b"5")]
    assert fields.content_length == -1


def test_applications_own_fields_stay() -> None:
    headers = [(b"Server", b"own"), (b"Date", b"now"), (b"Content-Length", b"3")]
    fields = build_fields(200, headers, 3, b"me")

    assert sorted(decode(fields)[1:]) == [
        (b"content-length", b"3"),
        (b"date", b"now"),
        (b"server", b"own"),
    ]
    assert not fields.wants_date


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"Keep-Alive",
        b"Transfer-Encoding",
        b"Proxy-Connection",
        b"Upgrade",
        b"TE",
    ],
)
def test_fields_of_a_connection_are_left_out(name: bytes) -> None:
    assert decode(build_fields(200, [(name, b"x")], None, b"")) == [
        (b":status", b"200")
    ]


def test_fields_that_connection_names_are_left_out() -> None:
    headers = [
        (b"X-Hop", b"1"),
        (b"Connection", b"close, x-hop"),
        (b"Connection", b"X-OTHER, date, content-length"),
        (b"x-other", b"1"),
        (b"x-kept", b"1"),
        (b"content-length", b"3"),
    ]

    for fields in (build_fields(200, headers, 3, b""), build_block(103, headers)):
        assert sorted(decode(fields)[1:]) == [
            (b"content-length", b"3"),
            (b"x-kept", b"1"),
        ]


@pytest.mark.parametrize("status", [204, 205])
def test_no_content_has_no_length(status: int) -> None:
    fields = build_fields(status, [(b"content-length", b"3")], None, b"")

    assert decode(fields) == [(b":status", b"%d" % status)]


def test_cookies_keep_their_order_and_are_never_indexed() -> None:
    headers = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    fields = build_fields(200, headers, None, b"")

    assert decode(fields)[1:] == headers
    assert fields.literal[0] & 0xF0 == 0x10


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x y", b"z")],
        [(b"", b"z")],
        [(b":status", b"200")],
        [(b"x", b"a\r\nb: c")],
        [(b"x", b"a\0")],
        [(b"x", "text")],
        [("x", b"y")],
        [(b"x",)],
        [b"x: y"],
        [7],
        [(b"content-length", b"1"), (b"content-length", b"1")],
        [(b"content-length", b"-1")],
    ],
)
def test_what_cannot_be_sent_is_the_applications_fault(headers: Any) -> None:
    with pytest.raises(ApplicationError):
        build_fields(200, headers, None, b"")


@pytest.mark.parametrize("status", [99, 1000, "200", None])
def test_status_is_checked(status: Any) -> None:
    with pytest.raises(ApplicationError, match="Status"):
        build_block(status, [])


def test_same_fields_give_the_same_object() -> None:
    headers = [(b"content-type", b"text/plain")]
    first = build_fields(200, headers, 5, b"me")

    assert build_fields(200, list(headers), 5, b"me") is first
    assert build_fields(200, headers, 6, b"me") is not first
    assert build_fields(201, headers, 5, b"me") is not first
    assert first.is_kept


def test_pairs_may_be_lists() -> None:
    headers: Any = [[b"x-list", b"1"]]
    first = build_fields(200, headers, None, b"")

    assert build_fields(200, headers, None, b"") is first


def test_long_fields_are_not_kept() -> None:
    headers = [(b"x", b"y" * 2000)]

    assert not build_fields(200, headers, None, b"").is_kept


@pytest.mark.parametrize("name", [b"content-length", b"connection", b"date"])
def test_trailers_have_no_fields_of_a_head(name: bytes) -> None:
    with pytest.raises(ApplicationError, match="trailer"):
        build_trailers([(name, b"1")])


@given(
    st.one_of(
        st.sampled_from([b"etag", b"set-cookie", b"content-length", b"location"]),
        st.from_regex(rb"[a-z][a-z0-9-]{0,200}", fullmatch=True),
    ),
    st.binary(max_size=400),
)
def test_literal_is_read_back(name: bytes, value: bytes) -> None:
    ((found_name, found_value),) = Decoder().decode(
        encode_literal(name, value), raw=True
    )

    assert (found_name, found_value) == (name, value)
