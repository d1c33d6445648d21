"""Field sections against the library's own other side."""

from __future__ import annotations

import pylsqpack
import pytest

from djserve.errors import ApplicationError
from djserve.protocols.http3.errors import HTTP3Error
from djserve.protocols.http3.qpack import FieldCodec

FIELDS = [(b":status", b"200"), (b"x-own", b"value")]


def test_fields_both_ways() -> None:
    codec = FieldCodec()
    block = pylsqpack.Encoder().encode(0, FIELDS)[1]

    assert codec.decode(0, block) == FIELDS
    for stream_id in (0, 4):
        block = codec.encode(stream_id, FIELDS)
        assert pylsqpack.Decoder(0, 0).feed_header(stream_id, block)[1] == FIELDS


def test_what_cannot_be_decoded() -> None:
    with pytest.raises(HTTP3Error):
        FieldCodec().decode(0, b"\xff\xff\xff\xff")
    with pytest.raises(HTTP3Error):
        # A reference to a table that was not allowed.
        FieldCodec().decode(0, b"\x02\x00\x80")
    with pytest.raises(HTTP3Error):
        FieldCodec().feed_encoder(b"\x3f\x81\x1f")
    with pytest.raises(HTTP3Error):
        FieldCodec().feed_decoder(b"\x3f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")


def test_value_beyond_the_library() -> None:
    with pytest.raises(ApplicationError):
        FieldCodec().encode(0, [(b"x", b"y" * 70_000)])
