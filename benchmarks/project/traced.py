"""The project as an ASGI application, with the agent that BENCH_AGENT names.

Its reports are counted, and then dropped in the process.
"""

from __future__ import annotations

import os
from typing import Any

from django.core.asgi import get_asgi_application

reported = 0
"""How many requests the agent has reported; threads may lose one here and there."""


def _start_nothing() -> None:
    """Measure without an agent."""


def _start_sentry() -> None:
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Drop(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            global reported
            reported += sum(
                item.headers.get("type") == "transaction" for item in envelope.items
            )

    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1", traces_sample_rate=1.0, transport=Drop
    )


def _start_opentelemetry() -> None:
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import (
        SimpleSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )
    from opentelemetry.trace import SpanKind

    class Drop(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            global reported
            reported += sum(span.kind is SpanKind.SERVER for span in spans)
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Drop()))
    DjangoInstrumentor().instrument(tracer_provider=provider)


# Before the application is made: the one adds a middleware, the other patches it.
{
    "": _start_nothing,
    "sentry": _start_sentry,
    "opentelemetry": _start_opentelemetry,
}[os.environ.get("BENCH_AGENT", "")]()

application = get_asgi_application()
