"""Encoders, against the decoders of the same formats' own libraries."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from djserve.responses.codecs import STREAM_BITS, find_encoders
from tests.support.decoding import CODINGS, open_decoder

TEXT = b"".join(b"line %d of a text\n" % number for number in range(20_000))


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [None, 0, 1, 600, 5000, 100_000, len(TEXT)])
def test_content_of_any_size_comes_back(coding: str, size: int | None) -> None:
    content = TEXT[:size]
    encoder = find_encoders([coding])[coding.encode()](size)
    data = encoder.compress(memoryview(content)) + encoder.finish()

    assert open_decoder(coding)(data) == content
    if len(content) > 1000:
        assert len(data) < len(content) / 2


@pytest.mark.parametrize("coding", CODINGS)
def test_each_part_can_be_decoded_after_its_flush(coding: str) -> None:
    encoder = find_encoders([coding])[coding.encode()](None)
    decode = open_decoder(coding)
    for number in range(100):
        part = b"data: %d\n\n" % number
        assert decode(encoder.compress(part) + encoder.flush()) == part
    assert decode(encoder.finish()) == b""


def test_codings_are_in_the_order_of_the_setting() -> None:
    assert list(find_encoders(["gzip", "zstd", "br"])) == [b"gzip", b"zstd", b"br"]


def test_codings_without_a_package_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("brotli", "zstandard", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)

    assert list(find_encoders(CODINGS)) == [b"gzip"]


def test_zstd_of_python_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    class Compressor:
        FLUSH_BLOCK = 1

        def __init__(self, options: object) -> None:
            asked.append(options)

        def compress(self, data: bytes) -> bytes:
            return data

        def flush(self, mode: int = 2) -> bytes:
            return b"block" if mode == 1 else b"frame"

    module = ModuleType("compression.zstd")
    module.__dict__.update(
        ZstdCompressor=Compressor,
        CompressionParameter=SimpleNamespace(compression_level=100, window_log=101),
    )
    monkeypatch.setitem(sys.modules, "compression", ModuleType("compression"))
    monkeypatch.setitem(sys.modules, "compression.zstd", module)
    encoder = find_encoders(["zstd"])[b"zstd"](None)

    assert encoder.compress(b"a") + encoder.flush() + encoder.finish() == b"ablockframe"
    assert asked == [{100: 3, 101: STREAM_BITS}]
