from __future__ import annotations

import pytest

from djserve.protocols.websocket.frames import (
    OPCODE_BINARY,
    OPCODE_PING,
    OPCODE_TEXT,
    encode_close,
    encode_compressed,
    encode_control,
    encode_message,
    is_sendable,
)


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x82\x00"),
        (125, b"\x82\x7d"),
        (126, b"\x82\x7e\x00\x7e"),
        (65535, b"\x82\x7e\xff\xff"),
        (65536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_length_is_written_in_its_shortest_form(size: int, head: bytes) -> None:
    assert encode_message(bytes(size), OPCODE_BINARY) == head + bytes(size)


def test_text_has_its_own_opcode() -> None:
    assert encode_message(b"hi", OPCODE_TEXT) == b"\x81\x02hi"


@pytest.mark.parametrize(("size", "head"), [(3, b"\xc1\x03"), (200, b"\xc1\x7e\0\xc8")])
def test_compressed_message_has_the_first_reserved_bit(size: int, head: bytes) -> None:
    assert encode_compressed(bytes(size), OPCODE_TEXT) == head + bytes(size)


def test_control_frame_is_written() -> None:
    assert encode_control(b"p", OPCODE_PING) == b"\x89\x01p"


def test_close_carries_code_and_reason() -> None:
    assert encode_close(4000, "bye") == b"\x88\x05\x0f\xa0bye"


def test_long_reason_is_cut_between_characters() -> None:
    frame = encode_close(1000, "a" + "é" * 100)

    assert frame[:2] == b"\x88\x7d"
    assert frame[4:].decode() == "a" + "é" * 61


def test_reason_that_is_no_text_does_not_raise() -> None:
    assert encode_close(1000, "\ud800") == b"\x88\x03\x03\xe8?"


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1014, 3000, 4999])
def test_code_may_be_sent(code: int) -> None:
    assert is_sendable(code)


@pytest.mark.parametrize(
    "code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 70000]
)
def test_code_may_not_be_sent(code: int) -> None:
    assert not is_sendable(code)
