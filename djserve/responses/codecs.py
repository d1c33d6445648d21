"""Content codings (RFC 9110 8.4.1) as encoders whose output can be cut anywhere.

gzip is Python's; zstd is Python's from 3.14 on and a package before; br is a package.
Each encoder is sized for its content: what is kept for a short response, or for each of
a thousand event streams, is not what a long file is compressed best with.
"""

from __future__ import annotations

import zlib
from functools import lru_cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Each spends a few milliseconds on 100 KB: what the content saves on the way is more.
_ZSTD_LEVEL = 3
_BROTLI_QUALITY = 4
_GZIP_LEVEL = 5

STREAM_BITS = 15
"""Window of a stream without a known length, as a power of two: many may live long."""

_LARGEST_BITS = 20


class Encoder(Protocol):
    """One content, part by part."""

    def compress(self, data: bytes | memoryview, /) -> bytes:
        """Take a part; return what there is to send, perhaps nothing."""

    def flush(self) -> bytes:
        """Return the rest of what was taken, so that it can be decoded at once."""

    def finish(self) -> bytes:
        """Return the end."""


def find_encoders(
    codings: Sequence[str],
) -> dict[bytes, Callable[[int | None], Encoder]]:
    """Return what makes an encoder for each coding that can be had, in their order.

    It is called with the content's length, None if that is not known.
    """
    found: dict[bytes, Callable[[int | None], Encoder]] = {}
    for coding in codings:
        make = _FINDERS[coding]()
        if make is not None:
            found[coding.encode("ascii")] = make
    return found


class _Gzip:
    def __init__(self, size: int | None) -> None:
        bits, memory = 15, 8
        if size is None:
            bits, memory = STREAM_BITS - 1, 7
        # As nginx does: half of a short response's time would be spent on memory.
        while size is not None and bits > 9 and size < (1 << (bits - 1)) - 262:
            bits -= 1
            memory = max(1, memory - 1)
        encoder = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 16 + bits, memory)
        self.compress = encoder.compress
        self.flush = partial(encoder.flush, zlib.Z_SYNC_FLUSH)
        self.finish = encoder.flush


class _Brotli:
    def __init__(self, module: Any, size: int | None) -> None:
        bits = _window_bits(size)
        encoder = module.Compressor(quality=_BROTLI_QUALITY, lgwin=bits)
        process = encoder.process
        # Brotli's own class takes no memoryview.
        self.compress = lambda data: process(bytes(data))
        self.flush = encoder.flush
        self.finish = encoder.finish


class _ZstdPackage:
    def __init__(self, module: Any, size: int | None) -> None:
        parameters = _package_parameters(module, _window_bits(size))
        encoder = module.ZstdCompressor(compression_params=parameters).compressobj()
        self.compress = encoder.compress
        self.flush = partial(encoder.flush, module.COMPRESSOBJ_FLUSH_BLOCK)
        self.finish = encoder.flush


class _ZstdOfPython:
    def __init__(self, module: Any, size: int | None) -> None:
        parameter = module.CompressionParameter
        options = {
            parameter.compression_level: _ZSTD_LEVEL,
            parameter.window_log: _window_bits(size),
        }
        encoder = module.ZstdCompressor(options=options)
        self.compress = encoder.compress
        self.flush = partial(encoder.flush, encoder.FLUSH_BLOCK)
        self.finish = encoder.flush


def _find_gzip() -> Callable[[int | None], Encoder]:
    return _Gzip


def _find_brotli() -> Callable[[int | None], Encoder] | None:
    module = import_module("brotli") if find_spec("brotli") else None
    return None if module is None else partial(_Brotli, module)


def _find_zstd() -> Callable[[int | None], Encoder] | None:
    # "compression" is a name that others may have before Python 3.14.
    try:
        return partial(_ZstdOfPython, import_module("compression.zstd"))
    except ImportError:
        pass
    try:
        return partial(_ZstdPackage, import_module("zstandard"))
    except ImportError:
        return None


_FINDERS: dict[str, Callable[[], Callable[[int | None], Encoder] | None]] = {
    "br": _find_brotli,
    "gzip": _find_gzip,
    "zstd": _find_zstd,
}


def _window_bits(size: int | None) -> int:
    if size is None:
        return STREAM_BITS
    return min(_LARGEST_BITS, max(10, size.bit_length()))


@lru_cache(maxsize=32)
def _package_parameters(module: Any, bits: int) -> Any:
    return module.ZstdCompressionParameters.from_level(
        _ZSTD_LEVEL, source_size=1 << bits, window_log=bits
    )
