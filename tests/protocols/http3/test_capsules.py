"""Capsules in any pieces, and those that no session ends with."""

from __future__ import annotations

import pytest

from djserve.protocols.http3 import frames
from djserve.protocols.http3.capsules import CLOSE_SESSION, CapsuleReader, encode_close
from djserve.protocols.http3.errors import HTTP3Error

OTHER = frames.encode_frame(0x78AE, b"") + frames.encode_frame(0x17, b"x" * 5000)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_end_is_found_behind_others_in_any_pieces(size: int) -> None:
    reader = CapsuleReader()
    data = OTHER + encode_close(0xFFFFFFFF, "über")
    found = [reader.feed(data[at : at + size]) for at in range(0, len(data), size)]

    assert found[-1] == (0xFFFFFFFF, "über")
    assert not any(found[:-1])


@pytest.mark.parametrize(
    "payload", [b"", b"\0\0\0", b"\0\0\0\0\xff", b"\0" * 4 + b"x" * 1025]
)
def test_malformed_end_is_the_peers_fault(payload: bytes) -> None:
    with pytest.raises(HTTP3Error) as raised:
        CapsuleReader().feed(frames.encode_frame(CLOSE_SESSION, payload))

    assert raised.value.is_of_stream


@pytest.mark.parametrize(("code", "reason"), [(-1, ""), (1 << 32, ""), (0, "x" * 1025)])
def test_what_an_end_cannot_say_is_refused(code: int, reason: str) -> None:
    with pytest.raises(ValueError, match=r"at most 1024|32 bits"):
        encode_close(code, reason)
