"""How much request content is in temporary files, and how much was refused.

Apart from ``limits``: claims come from threads, and the wire protocols, which import
that module, import no locks.
"""

from __future__ import annotations

import threading
from collections import Counter

from djserve.instrumentation.limits import note_limit

_SETTINGS = {408: "BODY_TIME_LIMIT", 503: "UPLOAD_DISK_LIMIT"}
_lock = threading.Lock()
_size = 0
_refused: Counter[int] = Counter()


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


def note_refusal(status: int) -> None:
    """Count content that was answered with ``status`` before the application ran."""
    with _lock:
        _refused[status] += 1
        note_limit(_SETTINGS.get(status, ""))


def count_refusals(status: int) -> int:
    """Return how often ``note_refusal`` was called for a status in this process."""
    return _refused[status]
