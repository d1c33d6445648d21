"""OpenTelemetry's own settings, the variables OTEL_*, to what sends spans and metrics.

A project that has set up a provider of spans by itself keeps it. Otherwise one is made
when the server begins to run, after any fork: its threads would not survive one.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import djserve
from djserve.conf.extras import is_installed, missing_package
from djserve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.trace import Tracer

# Seconds at the end for the last spans to be sent.
SHUTDOWN_TIMEOUT = 5.0


def load_exporters(signal: str, environ: Mapping[str, str]) -> list[Any]:
    """Return the classes of the exporters for ``signal``, "traces" or "metrics".

    Raises ConfigError for one that is not installed.
    """
    return [_load(signal, name) for name in exporter_names(signal, environ)]


def exporter_names(signal: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the entry points' names of the exporters for "traces" or "metrics"."""
    for name in environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp").split(","):
        name = name.strip()
        if name == "otlp":
            yield _name_otlp(signal, environ)
        elif name not in ("", "none"):
            yield name


def _name_otlp(signal: str, environ: Mapping[str, str]) -> str:
    protocol = environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL"
    protocol = environ.get(own, protocol)
    return "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"


def _load(signal: str, name: str) -> Any:
    # Only now: it imports csv, email and zipfile, and the system checks this module.
    from importlib import metadata

    group = f"opentelemetry_{signal}_exporter"
    for entry in metadata.entry_points(group=group, name=name):
        return entry.load()
    known = sorted({entry.name for entry in metadata.entry_points(group=group)})
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    problem = f"{variable}: no exporter {name!r} is installed"
    raise ConfigError([f"{problem} (there are: {', '.join(known)})"])


def require_tracing() -> None:
    """Raise ConfigError if OpenTelemetry's interface is not installed."""
    if not is_installed("opentelemetry.trace"):
        raise missing_package("TRACING", "opentelemetry-api")


def has_provider() -> bool:
    """Return whether spans already go somewhere, as an agent or the project has it."""
    from opentelemetry import trace

    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


class Export:
    """Where this process's spans go, from its start to ``close``. Raises ConfigError.

    ``tracer`` makes the spans.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        require_tracing()
        from opentelemetry import trace

        self._provider: Any = None
        if not has_provider():
            self._provider = make_provider(environ)
            trace.set_tracer_provider(self._provider)
        self.tracer: Tracer = trace.get_tracer("djserve", djserve.__version__)

    def close(self, longest: float = SHUTDOWN_TIMEOUT) -> None:
        """Send what waits, and wait for that for ``longest`` seconds, or less."""
        if self._provider is None:
            return
        # Its own timeouts are far longer than a server has to end.
        thread = threading.Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        thread.join(min(longest, SHUTDOWN_TIMEOUT))


def make_provider(environ: Mapping[str, str]) -> Any:
    """Return a provider of OpenTelemetry's SDK, which reads most variables itself."""
    try:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise missing_package("TRACING", "opentelemetry-sdk") from None
    exporters = load_exporters("traces", environ)
    # Not at exit: Python would wait there, for as long as the collector is away.
    provider = TracerProvider(shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter()))
    return provider
