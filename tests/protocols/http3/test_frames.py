"""Integers and settings, by RFC 9000's own examples."""

from __future__ import annotations

import pytest

from djserve.protocols.http3.errors import HTTP3Error
from djserve.protocols.http3.frames import (
    encode_integer,
    encode_settings,
    parse_id,
    parse_settings,
    read_integer,
)


@pytest.mark.parametrize(
    ("value", "data"),
    # RFC 9000 appendix A.1.
    [
        (151_288_809_941_952_652, "c2197c5eff14e88c"),
        (494_878_333, "9d7f3e7d"),
        (15_293, "7bbd"),
        (37, "25"),
    ],
)
def test_integers(value: int, data: str) -> None:
    encoded = bytes.fromhex(data)

    assert encode_integer(value) == encoded
    assert read_integer(b"x" + encoded, 1) == (value, 1 + len(encoded))
    assert read_integer(encoded[:-1], 0) is None


def test_integer_beyond_62_bits() -> None:
    with pytest.raises(ValueError, match="62"):
        encode_integer(1 << 62)


def test_settings_come_back() -> None:
    frame = encode_settings({6: 100, 8: 1})

    assert parse_settings(frame[2:]) == {6: 100, 8: 1}
    for wrong in (b"\x06", b"\x02\x00", b"\x06\x01\x06\x01"):
        with pytest.raises(HTTP3Error):
            parse_settings(wrong)


def test_id_is_the_whole_payload() -> None:
    assert parse_id(b"\x08") == 8
    for wrong in (b"", b"\x08\x00"):
        with pytest.raises(HTTP3Error):
            parse_id(wrong)
