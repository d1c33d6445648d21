"""Masked payloads to plain ones (RFC 6455 section 5.3), where they lie or as a copy.

The only module that knows Autobahn's native masker, which not each of its builds has.
"""

from __future__ import annotations

try:
    from _nvx_xormasker import ffi as _ffi
    from _nvx_xormasker import lib as _nvx
except ImportError:  # pragma: no cover - Autobahn's wheels have it, its sdist may not
    _ffi = _nvx = None

# From here on the native masker is faster than an integer (benchmark: websocket_mask).
NATIVE_FROM = 448
_NVX_SSE2 = 2

BUFFER_SIZE = 256 * 1024


def unmask(key: bytes, data: bytes, start: int, end: int) -> bytes | bytearray:
    """Return a part of ``data`` with a masking key applied.

    The key has four bytes. What is returned is the caller's own.
    """
    size = end - start
    if size >= NATIVE_FROM and _nvx is not None:
        # Autobahn's own wrapper costs three times as much for 1 KiB, and each further
        # copy of 16 KiB a fortieth of the whole (benchmark: websocket_echo_16k).
        unmasked = bytearray(memoryview(data)[start:end])
        _apply(key, _ffi.from_buffer(unmasked), size)
        return unmasked
    # In whole words: to cut the result costs less than to cut the repeated key too.
    words = (size + 3) >> 2
    mask = int.from_bytes(key * words, "little")
    word_bytes = (int.from_bytes(data[start:end], "little") ^ mask).to_bytes(
        words << 2, "little"
    )
    return word_bytes[:size] if size & 3 else word_bytes


class SharedBuffer:
    """What the connections of one event loop read into, one after the other.

    What has been read must be taken before the next read. ``data`` and ``view`` are the
    same bytes.
    """

    __slots__ = ("_address", "data", "view")

    def __init__(self) -> None:
        self.data = bytearray(BUFFER_SIZE)
        self.view = memoryview(self.data)
        self._address = _ffi.from_buffer(self.data)

    def take_payload(self, start: int, end: int, is_text: bool) -> str | bytes | None:
        """Return the message whose masked payload lies there, its key in front of it.

        None for a text that is not UTF-8; then all is as it was before.
        """
        key = bytes(self.view[start - 4 : start])
        _apply(key, self._address + start, end - start)
        payload = self.view[start:end]
        if not is_text:
            return bytes(payload)
        try:
            return str(payload, "utf-8")
        except UnicodeDecodeError:
            _apply(key, self._address + start, end - start)
            return None


def open_read_buffer() -> SharedBuffer | None:
    """Return a buffer for the connections of one loop; None without native code."""
    return None if _nvx is None else SharedBuffer()


def _apply(key: bytes, address: object, size: int) -> None:
    masker = _nvx.nvx_xormask_new(key)
    _nvx.nvx_xormask_set_impl(masker, _NVX_SSE2)
    _nvx.nvx_xormask_process(masker, address, size)
    _nvx.nvx_xormask_free(masker)
