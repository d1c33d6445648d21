from __future__ import annotations

import os

import pytest

from djserve.protocols.websocket import masking
from djserve.protocols.websocket.masking import (
    BUFFER_SIZE,
    SharedBuffer,
    open_read_buffer,
    unmask,
)

KEY = b"\x01\x80\xfe\x7f"


def mask(payload: bytes, key: bytes = KEY) -> bytes:
    return bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 255, 256, 257, 1001, 70000])
def test_unmasking_is_the_same_at_every_size(size: int) -> None:
    payload = os.urandom(size)
    key = os.urandom(4)

    data = b"head" + payload + b"tail"
    plain = bytes(b ^ key[i % 4] for i, b in enumerate(payload))

    assert unmask(key, data, 4, 4 + size) == plain


def test_unmasking_works_without_native_code(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = os.urandom(1001)
    native = unmask(KEY, payload, 1, len(payload))
    monkeypatch.setattr(masking, "_nvx", None)

    assert unmask(KEY, payload, 1, len(payload)) == native


def filled(payload: bytes, start: int) -> SharedBuffer:
    """Return a buffer with a key and a masked payload, and bytes on either side."""
    buffer = SharedBuffer()
    data = b"\xaa" * (start - 4) + KEY + mask(payload) + b"\xbb" * 9
    buffer.view[: len(data)] = data
    return buffer


@pytest.mark.parametrize("size", [1, 447, 448, 1001, BUFFER_SIZE - 17])
@pytest.mark.parametrize("start", [4, 8])
def test_payload_is_taken_from_where_it_lies(size: int, start: int) -> None:
    payload = os.urandom(size)
    buffer = filled(payload, start)

    assert buffer.take_payload(start, start + size, is_text=False) == payload
    assert bytes(buffer.view[: start - 4]) == b"\xaa" * (start - 4)
    assert bytes(buffer.view[start + size : start + size + 9]) == b"\xbb" * 9


def test_text_is_decoded() -> None:
    text = "\N{SNOWMAN} in \N{GREEK SMALL LETTER PI}" * 50
    buffer = filled(text.encode(), 8)

    assert buffer.take_payload(8, 8 + len(text.encode()), is_text=True) == text


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80"])
def test_what_is_no_text_is_put_back(bad: bytes) -> None:
    payload = b"a" * 600 + bad
    buffer = filled(payload, 8)
    before = bytes(buffer.data)

    assert buffer.take_payload(8, 8 + len(payload), is_text=True) is None
    assert bytes(buffer.data) == before


def test_what_was_taken_stays_as_the_buffer_changes() -> None:
    buffer = filled(b"a" * 600, 8)
    taken = buffer.take_payload(8, 608, is_text=False)
    buffer.view[:700] = bytes(700)

    assert taken == b"a" * 600


def test_no_buffer_without_native_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_read_buffer(), SharedBuffer)

    monkeypatch.setattr(masking, "_nvx", None)
    assert open_read_buffer() is None
