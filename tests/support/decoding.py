"""Content codings undone, part by part, by the libraries that clients use."""

from __future__ import annotations

import zlib
from importlib import import_module
from typing import Any

CODINGS = ("zstd", "br", "gzip")


def open_decoder(coding: str) -> Any:
    """Return a function from the bytes of each part to what they stand for."""
    if coding == "gzip":
        return zlib.decompressobj(31).decompress
    if coding == "br":
        return import_module("brotli").Decompressor().process
    return import_module("zstandard").ZstdDecompressor().decompressobj().decompress
