"""Request content out of its framing, in any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.errors import ProtocolError
from djserve.protocols.http1.body import (
    CHUNK_EXTENSIONS_LIMIT,
    CHUNK_LINE_LIMIT,
    ChunkedDecoder,
    LengthDecoder,
)


def decode(data: bytes, limit: int = 1000, trailers: int = 100) -> ChunkedDecoder:
    decoder = ChunkedDecoder(limit, trailers)
    decoder.feed(data)
    return decoder


def status_of(data: bytes) -> int:
    """The status of the refusal, which must be the same for each byte by itself."""
    with pytest.raises(ProtocolError) as whole:
        decode(data)
    decoder = ChunkedDecoder(1000, 100)
    with pytest.raises(ProtocolError) as parts:
        for index in range(len(data)):
            decoder.feed(data[index : index + 1])
    assert whole.value.status == parts.value.status
    return whole.value.status


@pytest.mark.parametrize(
    ("data", "content", "rest"),
    [(b"abc", b"abc", b""), (b"abcde", b"abcde", b""), (b"abcdef", b"abcde", b"f")],
)
def test_length_takes_so_many_bytes(data: bytes, content: bytes, rest: bytes) -> None:
    decoder = LengthDecoder(5)

    assert b"".join(decoder.feed(data)) == content
    assert decoder.is_complete is (len(content) == 5)
    assert decoder.rest == rest


def test_length_of_nought_is_complete() -> None:
    assert LengthDecoder(0).is_complete


@given(chunks=st.lists(st.binary(min_size=1, max_size=20)), rest=st.binary(max_size=9))
def test_chunks_come_out_of_any_pieces(chunks: list[bytes], rest: bytes) -> None:
    data = b"".join(b"%X;x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    data += b"000\r\nA: b\r\n\r\n"
    decoder, content = ChunkedDecoder(1000, 100), b""
    for index in range(len(data) - 1):
        content += b"".join(decoder.feed(data[index : index + 1]))
    content += b"".join(decoder.feed(data[-1:] + rest))

    assert content == b"".join(chunks)
    assert decoder.is_complete
    assert decoder.rest == rest


@pytest.mark.parametrize(
    "line",
    [b"3", b"03", b"0000000000000003", b"3 ", b"3\t", b"3;", b"3;a", b'3 ;a="b c";d'],
)
def test_chunk_size_line_is_taken(line: bytes) -> None:
    assert decode(line + b"\r\nabc\r\n0\r\n\r\n").is_complete


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"0x3",
        b"+3",
        b"-3",
        b" 3",
        b"\t3",
        b"3_0",
        b"3,",
        b"3 a",
        b"3.",
        b"3\x00",
        b"3\x0b",
        b"3;\x00",
        b"3;\x7f",
        b"3;a\rb",
        b"\xb3",
        b"0" * 16 + b"3",
    ],
)
def test_malformed_chunk_size_line_is_refused(line: bytes) -> None:
    assert status_of(line + b"\r\nabc\r\n0\r\n\r\n") == 400


def test_chunk_size_line_is_bounded() -> None:
    extension = b";" + b"a" * (CHUNK_LINE_LIMIT - 2)

    assert decode(b"3" + extension + b"\r\nabc\r\n0\r\n\r\n").is_complete
    assert status_of(b"3" + extension + b"a\r\nabc\r\n0\r\n\r\n") == 400


def test_endless_chunk_size_line_is_refused_at_the_bound() -> None:
    assert status_of(b"3;" + b"a" * CHUNK_LINE_LIMIT) == 400


def test_chunk_extensions_are_bounded_in_total() -> None:
    chunk = b"1;" + b"a" * 200 + b"\r\nx\r\n"

    assert status_of(chunk * (CHUNK_EXTENSIONS_LIMIT // 201 + 1)) == 400


@pytest.mark.parametrize("end", [b"\n", b"\r", b"x\r\n", b"\rx", b"\n\r\n"])
def test_chunk_must_end_where_it_said(end: bytes) -> None:
    assert status_of(b"3\r\nabc" + end + b"0\r\n\r\n") == 400


def test_size_is_counted_over_all_chunks() -> None:
    assert decode(b"1f4\r\n" + b"x" * 500 + b"\r\n1f4\r\n").rest == b""
    assert status_of(b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n") == 413


def test_huge_chunk_is_refused_by_its_size() -> None:
    assert status_of(b"f" * 16 + b"\r\n") == 413


@pytest.mark.parametrize("trailers", [b"", b"A: b\r\n", b"A:\r\nB: \xe9\t\r\n"])
def test_trailers_are_skipped(trailers: bytes) -> None:
    decoder = decode(b"0\r\n" + trailers + b"\r\nrest")

    assert decoder.is_complete
    assert decoder.rest == b"rest"


@pytest.mark.parametrize(
    "line",
    [
        b"A",
        b": b",
        b"A : b",
        b"A b: c",
        b"A: b\r\n c",
        b"A: \x00",
        b"A: b\rc",
        b" A: b",
    ],
)
def test_malformed_trailer_is_refused(line: bytes) -> None:
    assert status_of(b"0\r\n" + line + b"\r\n\r\n") == 400


@pytest.mark.parametrize("data", [b"0\n\n", b"0\r\n\n", b"0\r\nA: b\n\n", b"0\r\n\rx"])
def test_bare_line_ends_are_refused(data: bytes) -> None:
    assert status_of(data) == 400


def test_trailers_are_bounded() -> None:
    assert decode(b"0\r\nA: " + b"b" * 90).rest == b""
    assert status_of(b"0\r\n" + b"A: b\r\n" * 20) == 431
    assert status_of(b"0\r\nA: " + b"b" * 200) == 431


def test_many_chunks_are_decoded_some_at_a_time() -> None:
    decoder = ChunkedDecoder(10**6, 1000)
    content = [decoder.feed(b"1\r\nx\r\n" * 3000 + b"0\r\n\r\nGET")]
    while decoder.is_spent:
        assert decoder.held_size > 0
        content.append(decoder.feed(b""))

    assert [len(chunks) for chunks in content] == [1024, 1024, 952]
    assert decoder.is_complete
    assert decoder.rest == b"GET"
    assert decoder.held_size == 0


def test_more_may_come_before_the_rest_is_decoded() -> None:
    decoder = ChunkedDecoder(10**6, 1000)
    first = decoder.feed(b"1\r\nx\r\n" * 1500 + b"1\r")
    second = decoder.feed(b"\ny\r\n0\r\n\r\n")

    assert len(first) + len(second) == 1501
    assert decoder.is_complete
