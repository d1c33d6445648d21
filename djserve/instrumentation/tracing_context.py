"""What runs under which trace: known to the logs whether or not OpenTelemetry is there.

Everything else about traces is in ``instrumentation.tracing``, which is imported only
if tracing is on.
"""

from __future__ import annotations

from contextvars import ContextVar

from djserve.instrumentation.notes import Preparations

current_trace_id: ContextVar[str] = ContextVar("djserve_trace_id", default="")
"""The trace, in hexadecimal digits, that the running code belongs to; "" for none."""

preparations = Preparations()
"""Called when tracing begins in this process, if it ever does."""
