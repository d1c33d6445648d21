"""Field names and values: nothing that would break a head is ever encoded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.errors import ApplicationError
from djserve.protocols import headers
from djserve.protocols.headers import (
    Field,
    check_status,
    count_members,
    encode_fields,
    encode_line,
    get_known_line,
    is_token,
    members_limit,
    parse_length,
    split_list,
    split_pair,
)


@pytest.fixture(autouse=True)
def empty_stores() -> None:
    """Let no test depend on what others have had remembered."""
    headers._lines.clear()
    headers._names.clear()


TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def test_line_is_written_as_given() -> None:
    assert encode_line((b"X-Name", b" a\tb\xe9 ")) == (
        b"X-Name:  a\tb\xe9 \r\n",
        Field.OTHER,
    )


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (b"Content-Length", Field.CONTENT_LENGTH),
        (b"transfer-encoding", Field.TRANSFER_ENCODING),
        (b"CONNECTION", Field.CONNECTION),
        (b"Keep-Alive", Field.KEEP_ALIVE),
        (b"Proxy-Connection", Field.KEEP_ALIVE),
        (b"Date", Field.DATE),
        (b"Server", Field.SERVER),
        (b"Content-Type", Field.OTHER),
    ],
)
def test_field_is_known_in_any_case(name: bytes, field: Field) -> None:
    assert encode_line((name, b"1"))[1] is field
    assert encode_line((name.lower(), b"1"))[1] is field


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, list])
def test_values_of_bytes_are_taken(make: Any) -> None:
    if make is list:
        assert encode_line([b"x", b"y"])[0] == b"x: y\r\n"
    else:
        assert encode_line((b"x", make(b"y")))[0] == b"x: y\r\n"


@pytest.mark.parametrize("value", ["y", 1, None, True, [b"y"], (b"y",), 1.5])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(ApplicationError, match="Value of response header b'x'"):
        encode_line((b"x", value))


@pytest.mark.parametrize("name", ["x", 1, None, True, b"", b"a b", b"a:", b"\xe9", []])
def test_other_names_are_refused(name: Any) -> None:
    with pytest.raises(ApplicationError, match="name must be a token"):
        encode_line((name, b"y"))


@pytest.mark.parametrize("pair", [None, 1, (), (b"x",), (b"x", b"y", b"z"), "ab", {}])
def test_other_pairs_are_refused(pair: Any) -> None:
    with pytest.raises(ApplicationError):
        encode_line(pair)


@pytest.mark.parametrize(
    "bad",
    [b"\r", b"\n", b"\0", b"\r\n", b"\r\nSet-Cookie: a=b", b"\x01", b"\x1b", b"\x7f"],
)
@pytest.mark.parametrize("name", [b"x-any", b"content-type", b"Vary"])
def test_values_with_a_control_byte_are_refused(name: bytes, bad: bytes) -> None:
    for value in (bad, b"a" + bad, bad + b"a", b"a" + bad + b"b"):
        with pytest.raises(ApplicationError, match="has a control byte"):
            encode_line((name, value))
        assert get_known_line((name, value)) is None


@given(name=st.binary(max_size=30), value=st.binary(max_size=60))
def test_line_is_one_field_line_or_refused(name: bytes, value: bytes) -> None:
    safe = all(byte in TOKEN for byte in name) and name != b""
    safe = safe and all(byte == 9 or 31 < byte != 127 for byte in value)
    for _ in range(2):
        try:
            line, _field = encode_line((name, value))
        except ApplicationError:
            assert not safe
        else:
            assert safe
            assert line == name + b": " + value + b"\r\n"


def test_repeated_line_is_remembered_as_it_was() -> None:
    pair = (b"Content-Type", b"text/x-remembered")
    line = encode_line(pair)

    assert get_known_line(pair) == line
    assert get_known_line((b"content-type", b"text/x-remembered")) is None


def test_stores_are_bounded() -> None:
    for number in range(5000):
        encode_line((b"vary", b"x-%d" % number))
        encode_line((b"x-%d" % number, b"y"))

    assert get_known_line((b"vary", b"x-4999")) is None
    assert encode_line((b"x-4999", b"y"))[0] == b"x-4999: y\r\n"


def test_fields_are_joined() -> None:
    assert encode_fields([(b"a", b"1"), (b"B", b"2")]) == b"a: 1\r\nB: 2\r\n"
    assert encode_fields([]) == b""


def test_token() -> None:
    assert is_token(TOKEN)
    assert not any(is_token(bytes([byte])) for byte in range(256) if byte not in TOKEN)
    assert not is_token(b"a\n")


def test_list_is_split_and_lowered() -> None:
    assert split_list(b"Close, ,\tFoo ,") == [b"close", b"foo"]
    assert split_list(b"") == []


@pytest.mark.parametrize("pair", [None, (b"x",), (b"x", b"y", b"z")])
def test_field_that_is_no_pair_is_refused(pair: Any) -> None:
    with pytest.raises(ApplicationError, match="pairs of bytes"):
        split_pair(pair)


def test_pair_is_told_apart_by_its_name() -> None:
    assert split_pair([b"X-A", b" b "]) == (b"X-A", b" b ", Field.OTHER)
    assert split_pair((b"Date", b"now")) == (b"Date", b"now", Field.DATE)


@pytest.mark.parametrize("status", [99, 1000, "200", 200.5, None, True])
def test_status_is_a_number_of_three_digits(status: Any) -> None:
    with pytest.raises(ApplicationError, match="Status must be"):
        check_status(status)


@pytest.mark.parametrize("value", [b"", b"-1", b"+1", b"1 ", b"0x1"])
def test_length_is_plain_digits(value: bytes) -> None:
    with pytest.raises(ApplicationError, match="Content-Length"):
        parse_length(value, -1)


def test_length_is_given_once() -> None:
    assert parse_length(b"10", -1) == 10
    with pytest.raises(ApplicationError, match="once"):
        parse_length(b"10", 10)


def test_members_of_lists_are_counted_and_nothing_else() -> None:
    fields = [
        (b"accept", b"a, b;q=1"),
        (b"cookie", b"a=b; c=d"),
        (b"if-none-match", b",,,"),
        (b"user-agent", b"a;b,c"),
    ]

    assert count_members(fields) == 6


@pytest.mark.parametrize(("fields", "members"), [(1, 1000), (200, 1000), (300, 1500)])
def test_limit_of_members_follows_that_of_fields(fields: int, members: int) -> None:
    assert members_limit(fields) == members
