"""Requests from fields: limits and refusals (the rules are in test_conformance)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.conf.schema import HTTPConfig
from djserve.interfaces import Headers
from djserve.protocols.http2.errors import HTTP2Error
from djserve.protocols.http2.request import (
    DEFAULT_PRIORITY,
    Priority,
    Request,
    check_trailers,
    parse_priority,
    parse_request,
)

BASE: Headers = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"a"),
    (b":path", b"/p?q"),
]
CONNECT: Headers = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    *BASE[1:],
]


def parse(*extra: tuple[bytes, bytes], **config: Any) -> Request:
    return parse_request([*BASE, *extra], HTTPConfig(**config))


def status(request: Request) -> int | None:
    return None if request.refusal is None else request.refusal.status


def test_arrivals_without_content_have_one_head_from_the_second_on() -> None:
    request = parse((b"x", b"y"))
    heads = [request.build_head(True) for _ in range(4)]

    assert [head.repetition is None for head in heads] == [True, False, False, False]
    assert heads[1] is heads[2] is heads[3]
    heads[0].headers.clear()
    assert heads[1].headers == [(b"host", b"a"), (b"x", b"y")]
    assert request.headers == heads[1].headers


@pytest.mark.parametrize(
    ("fields", "is_complete"),
    [([*BASE, (b"content-length", b"3")], False), (CONNECT, True), (CONNECT, False)],
)
def test_arrival_that_brings_more_than_its_head_has_one_to_itself(
    fields: Headers, is_complete: bool
) -> None:
    request = parse_request(fields, HTTPConfig())
    heads = [request.build_head(is_complete) for _ in range(4)]

    assert all(head.repetition is None for head in heads)
    assert len({id(head.headers) for head in heads}) == 4


def test_content_belongs_to_the_arrival() -> None:
    request = parse((b"content-length", b"3"), (b"expect", b"100-Continue"))

    with_content, without = request.build_head(False), request.build_head(True)
    assert (with_content.has_body, with_content.expects_continue) == (True, True)
    assert (without.has_body, without.expects_continue) == (False, False)
    assert with_content.content_length == 3


def test_long_target_is_refused() -> None:
    # As over HTTP/1.1, with "GET " and " HTTP/1.1".
    config = HTTPConfig(request_line_limit=64)
    long, longer = ([*BASE[:3], (b":path", b"/" * size)] for size in (51, 52))

    assert status(parse_request(long, config)) is None
    refusal = parse_request(longer, config).refusal
    assert refusal is not None
    assert (refusal.status, refusal.setting) == (414, "REQUEST_LINE_LIMIT")


def test_size_counts_each_fields_overhead() -> None:
    size = sum(len(name) + len(value) + 32 for name, value in BASE)
    extra = (b"x", b"y" * 500)

    assert status(parse(extra, header_size_limit=size + 533)) is None
    assert status(parse(extra, header_size_limit=size + 532)) == 431


def test_names_with_an_underscore_are_dropped() -> None:
    # CVE-2015-0219.
    assert parse((b"x_forwarded_for", b"1")).headers == [(b"host", b"a")]


def test_malformed_wins_over_refused() -> None:
    with pytest.raises(HTTP2Error):
        parse((b"expect", b"x"), (b"connection", b"close"))


def test_kept_refusal_holds_no_stack() -> None:
    refusal = parse((b"x", b"\0")).refusal

    assert refusal is not None
    assert refusal.__traceback__ is None


def test_trailers_are_checked() -> None:
    check_trailers([(b"x-sum", b"1")])
    for field in ((b":path", b"/"), (b"x", b"a\0")):
        with pytest.raises(HTTP2Error):
            check_trailers([field])


@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=6))
def test_any_fields_are_a_request_or_a_fault(fields: Headers) -> None:
    try:
        request = parse(*fields)
    except HTTP2Error:
        return
    if request.refusal is not None:
        return
    assert request.headers[0] == (b"host", b"a")
    for name, value in request.headers:
        assert name == name.lower()
        assert not {b"\r", b"\n", b"\0"} & {value[i : i + 1] for i in range(len(value))}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", (3, False)),
        (b"u=0", (0, False)),
        (b"u=7, i", (7, True)),
        (b"i,u=1", (1, True)),
        (b" u=5 ,\ti=?1 ", (5, True)),
        (b"i=?0", (3, False)),
        (b"u=2, u=6", (6, False)),
        (b'u=1;x="a,b", foo=bar;q, i;y=1', (1, True)),
        (b"u=8", (3, False)),
        (b"u=-1", (3, False)),
        (b"u=1.0", (3, False)),
        (b"u", (3, False)),
        (b"i=1", (3, False)),
        (b"u=1,", (3, False)),
        (b"u=1 i", (3, False)),
        (b"U=1", (3, False)),
        (b"u=1, =", (3, False)),
        (b"u=0" + b" " * 300 + b", i", (3, False)),
    ],
)
def test_field(value: bytes, expected: tuple[int, bool]) -> None:
    assert parse_priority(value) == expected


@given(st.binary(max_size=40))
def test_any_field_gives_a_priority(value: bytes) -> None:
    assert 0 <= parse_priority(value).urgency <= 7


def test_default_is_of_middle_urgency() -> None:
    assert Priority(3, False) == DEFAULT_PRIORITY


def test_lists_of_very_many_members_are_refused() -> None:
    refused = parse((b"cookie", b"a=b;" * 600), (b"accept", b"a," * 600))
    taken = parse((b"cookie", b"a=b;" * 400), (b"x-data", b"a," * 5000))

    assert status(refused) == 431
    assert status(taken) is None
