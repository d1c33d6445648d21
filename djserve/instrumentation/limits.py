"""What limits of the settings have refused or closed in this process.

Each is counted, and requests that a setting has answered with 503 are logged: at most
one line a minute for a setting, since an overload would fill the log, and the access
log has them all.

Called only when there is something to refuse, and on the event loop's thread.
"""

from __future__ import annotations

import logging
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Any

from djserve.instrumentation.events import escape

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger("djserve")

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

_LOG_INTERVAL = 60.0

# When each setting may be named again, and how many requests were not named since.
_next_log: dict[str, float] = {}
_unnamed: dict[str, int] = {}


def note_limit(setting: str, times: int = 1) -> None:
    """Count what a setting has refused or closed; others than LIMITS are ignored."""
    if setting in _counts:
        _counts[setting] += times


def limits_reached() -> Mapping[str, int]:
    """Return the counts of all LIMITS."""
    return _counts


def note_unavailable(setting: str, reason: str, scope: Mapping[str, Any]) -> None:
    """Log that a request was answered with 503, at most once a minute for a setting.

    ``scope`` is the request's; its query may hold secrets and is left out.
    """
    note_limit(setting)
    now = monotonic()
    if now < _next_log.get(setting, 0.0):
        _unnamed[setting] = _unnamed.get(setting, 0) + 1
        return
    _next_log[setting] = now + _LOG_INTERVAL
    logger.warning(
        "Answered %s %.200s with 503: %s (setting %s); %d more since the last "
        "such line",
        scope.get("method", "WebSocket"),
        escape(scope["path"]),
        reason,
        setting,
        _unnamed.pop(setting, 0),
    )
