"""What runs under which trace: known to the logs whether or not OpenTelemetry is there.

Everything else about traces is in ``instrumentation.tracing``, which is imported only
where tracing is on.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

current_trace_id: ContextVar[str] = ContextVar("djserve_trace_id", default="")
"""The trace, in hexadecimal digits, that the running code belongs to; "" for none."""

_preparations: list[Callable[[], None]] = []


def prepare_with(function: Callable[[], None]) -> None:
    """Have ``function`` called when tracing begins in this process, if it ever does."""
    if function not in _preparations:
        _preparations.append(function)


def prepare() -> None:
    """Call what waits for tracing to begin, once each."""
    while _preparations:
        _preparations.pop(0)()
