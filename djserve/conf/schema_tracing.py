"""The settings of traces, part of ``conf.schema``."""

from __future__ import annotations

from dataclasses import dataclass

from djserve.conf.declaration import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingConfig:
    """Tracing"""

    tracing: bool = setting(
        False,
        "Make an OpenTelemetry span for each request and each WebSocket; needs the "
        "package extra otel. OpenTelemetry's variables OTEL_* say where they go.",
    )
