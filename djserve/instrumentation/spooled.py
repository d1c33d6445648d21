"""How much request content is in temporary files, of all requests together."""

from __future__ import annotations

import threading

_lock = threading.Lock()
_size = 0


def spooled_size() -> int:
    """Return the bytes that are claimed in this process."""
    return _size


def claim(size: int, limit: int | None) -> bool:
    """Claim space before it is written to; False if that would be over the limit."""
    global _size
    with _lock:
        if limit is not None and _size + size > limit:
            return False
        _size += size
        return True


def release(size: int) -> None:
    """Give space back; called in any thread."""
    global _size
    with _lock:
        _size -= size
