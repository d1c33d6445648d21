"""Field sections by QPACK (RFC 9204), without dynamic tables.

A table in the peer's hands would let a few bytes stand for kilobytes, and a block wait
for another stream. Without one a block is at most some sixty times its size, which the
limit on blocks bounds, and is decoded when it comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pylsqpack

from djserve.errors import ApplicationError
from djserve.protocols.http3.errors import ErrorCode, HTTP3Error

if TYPE_CHECKING:
    from djserve.interfaces import Headers


class FieldCodec:
    """Both directions of one connection."""

    __slots__ = ("_decoder", "_encoder")

    def __init__(self) -> None:
        self._decoder = pylsqpack.Decoder(0, 0)
        self._encoder = pylsqpack.Encoder()

    def encode(self, stream_id: int, fields: Headers) -> bytes:
        """Return a block that refers to nothing but itself.

        Raises ApplicationError for what QPACK's library does not take.
        """
        try:
            return self._encoder.encode(stream_id, fields)[1]
        except ValueError as error:
            # A name or a value beyond 64 KiB.
            raise ApplicationError(
                f"QPACK refuses a response header: {error}"
            ) from error

    def decode(self, stream_id: int, block: bytes) -> Headers:
        """Return a block's fields. Raises HTTP3Error."""
        try:
            return self._decoder.feed_header(stream_id, block)[1]
        except (pylsqpack.DecompressionFailed, pylsqpack.StreamBlocked) as error:
            raise HTTP3Error(
                "A field block cannot be decoded", ErrorCode.QPACK_DECOMPRESSION_FAILED
            ) from error

    def feed_encoder(self, data: bytes) -> None:
        """Take bytes of the peer's encoder, which has no table to fill."""
        try:
            self._decoder.feed_encoder(data)
        except pylsqpack.EncoderStreamError as error:
            raise HTTP3Error(
                "The encoder stream is wrong", ErrorCode.QPACK_ENCODER_STREAM_ERROR
            ) from error

    def feed_decoder(self, data: bytes) -> None:
        """Take bytes of the peer's decoder, which has nothing to confirm."""
        try:
            self._encoder.feed_decoder(data)
        except pylsqpack.DecoderStreamError as error:
            raise HTTP3Error(
                "The decoder stream is wrong", ErrorCode.QPACK_DECODER_STREAM_ERROR
            ) from error
