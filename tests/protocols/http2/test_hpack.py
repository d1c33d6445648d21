"""Header blocks: what is kept ready means the same as what is coded anew."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from djserve.conf.schema import HTTPConfig
from djserve.protocols.http2.errors import HTTP2Error
from djserve.protocols.http2.hpack import (
    ENCODER_TABLE_LIMIT,
    BlockDecoder,
    BlockEncoder,
)
from djserve.protocols.http2.response import build_fields

BASE = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"a"),
    (b":path", b"/"),
]
SMALL = st.sampled_from([b"a", b"b", b"c"])


@given(st.lists(st.lists(st.tuples(SMALL, SMALL), max_size=3), max_size=30))
def test_requests_are_what_the_client_meant(
    requests: list[list[tuple[bytes, bytes]]],
) -> None:
    encoder, decoder = Encoder(), BlockDecoder(HTTPConfig())
    for extra in requests:
        request = decoder.decode_request(encoder.encode([*BASE, *extra]))
        assert request.headers == [(b"host", b"a"), *extra]


@given(
    st.lists(
        st.tuples(st.lists(st.tuples(SMALL, SMALL), max_size=3), SMALL), max_size=30
    ),
    st.integers(0, 200),
)
def test_responses_are_what_the_application_meant(
    responses: list[tuple[list[tuple[bytes, bytes]], bytes]], table_size: int
) -> None:
    names = {b"a": b"content-type", b"b": b"x-other", b"c": b"cache-control"}
    encoder, decoder = BlockEncoder(), Decoder()
    for number, (pairs, date) in enumerate(responses):
        if number == 10:
            encoder.header_table_size = table_size
        headers = [(names[name], value) for name, value in pairs]
        block = encoder.encode_response(build_fields(200, headers, None, b"me"), date)
        found = [(n, v) for n, v in decoder.decode(block, raw=True)]
        expected = [(b":status", b"200"), *headers, (b"server", b"me"), (b"date", date)]
        assert sorted(found) == sorted(expected)


def test_repeated_request_is_decoded_once() -> None:
    encoder, decoder = Encoder(), BlockDecoder(HTTPConfig())
    decoder.decode_request(encoder.encode(BASE))
    block = encoder.encode(BASE)

    assert decoder.decode_request(block) is decoder.decode_request(block)


def test_block_that_changes_the_table_is_not_kept() -> None:
    encoder, decoder = Encoder(), BlockDecoder(HTTPConfig())
    block = encoder.encode([*BASE, (b"x", b"y")])
    first = decoder.decode_request(block)

    assert decoder.decode_request(block) is not first


def test_change_of_the_table_forgets_what_was_kept() -> None:
    encoder, decoder = Encoder(), BlockDecoder(HTTPConfig())
    for _ in range(2):
        first = encoder.encode([*BASE, (b"x", b"1")])
        decoder.decode_request(first)
    second = encoder.encode([*BASE, (b"x", b"2")])
    decoder.decode_request(second)

    # Its indices name other entries now: the authority's is a regular field.
    with pytest.raises(HTTP2Error, match="Misplaced"):
        decoder.decode_request(first)


def test_repeated_response_is_encoded_once() -> None:
    encoder = BlockEncoder()
    fields = build_fields(200, [(b"content-type", b"a/b")], 5, b"me")
    date = b"now"
    encoder.encode_response(fields, date)
    block = encoder.encode_response(fields, date)

    assert encoder.encode_response(fields, date) is block


def test_malformed_request_is_a_streams_fault() -> None:
    with pytest.raises(HTTP2Error) as caught:
        BlockDecoder(HTTPConfig()).decode_request(Encoder().encode(BASE[1:]))

    assert caught.value.stream_id


@pytest.mark.parametrize("block", [b"\xff", b"\x40\x85x", b"\xfe", b"\x80"])
def test_block_that_cannot_be_read_is_the_connections_fault(block: bytes) -> None:
    with pytest.raises(HTTP2Error) as caught:
        BlockDecoder(HTTPConfig()).decode_request(block)

    assert (caught.value.code, caught.value.stream_id) == (
        ErrorCodes.COMPRESSION_ERROR,
        0,
    )


def test_peer_cannot_make_our_table_grow() -> None:
    encoder = BlockEncoder()
    encoder.header_table_size = 2**31

    assert encoder.header_table_size == ENCODER_TABLE_LIMIT


@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_a_fault(block: bytes) -> None:
    try:
        request = BlockDecoder(HTTPConfig()).decode_request(block)
    except HTTP2Error:
        return
    assert request.method


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ([0, 4096] * 1000, b"\x20\x3f\xe1\x1f"),
        ([100, 50, 70], b"\x3f\x13\x3f\x27"),
        ([100, 50], b"\x3f\x13"),
        ([0, 100, 4096], b"\x20\x3f\xe1\x1f"),
    ],
    ids=["to and fro", "up at last", "down", "up"],
)
def test_smallest_table_and_the_last_are_told_alone(
    sizes: list[int], told: bytes
) -> None:
    encoder = BlockEncoder()
    for size in sizes:
        encoder.header_table_size = size
    fields = build_fields(200, [(b"x", b"y")], None, b"")
    block = encoder.encode_response(fields, b"")

    assert block.startswith(told + b"\x88")
    assert (b"x", b"y") in list(Decoder().decode(block, raw=True))
    assert encoder.table_size_changes == []
