"""How often a limit of the settings has refused or closed something in this process.

Called on the event loop's thread only, and only when there is something to refuse.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMITS = (
    "BODY_MIN_RATE",
    "BODY_SIZE_LIMIT",
    "BODY_TIME_LIMIT",
    "CLIENT_MEMORY_LIMIT",
    "CONNECTION_LIMIT",
    "HEADER_COUNT_LIMIT",
    "HEADER_SIZE_LIMIT",
    "HEADER_TIMEOUT",
    "HTTP2_CALL_LIMIT",
    "HTTP2_CONTROL_FRAME_LIMIT",
    "HTTP2_FRAGMENT_LIMIT",
    "HTTP2_RESET_LIMIT",
    "HTTP2_STREAM_LIMIT",
    "REQUEST_LINE_LIMIT",
    "REQUEST_TIMEOUT",
    "THREAD_QUEUE_LIMIT",
    "THREAD_WAIT_TIMEOUT",
    "UPLOAD_DISK_LIMIT",
    "WEBSOCKET_CONNECT_TIMEOUT",
    "WEBSOCKET_MESSAGE_SIZE_LIMIT",
    "WEBSOCKET_SMALL_FRAME_LIMIT",
    "WRITE_TIMEOUT",
)
"""The settings that are counted, in the order of the board's table."""

_counts: Counter[str] = Counter(dict.fromkeys(LIMITS, 0))


def note_limit(setting: str, times: int = 1) -> None:
    """Count what a setting has refused or closed; others than LIMITS are ignored."""
    if setting in _counts:
        _counts[setting] += times


def limits_reached() -> Mapping[str, int]:
    """Return the counts of all LIMITS."""
    return _counts
