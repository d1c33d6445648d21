"""At most one line a minute for the requests that a setting has answered with 503.

An overload would fill the log with a line for each of them: the access log has those.
Called on the loop's thread only.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

from djserve.instrumentation.events import escape
from djserve.instrumentation.limits import note_limit

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger("djserve")

_LOG_INTERVAL = 60.0

# When each setting may be named again, and how many requests were not named since.
_next_log: dict[str, float] = {}
_unnamed: dict[str, int] = {}


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
