from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from importlib import metadata
from typing import ClassVar

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from djserve.errors import ConfigError
from djserve.instrumentation.otel import Export, load_exporters, make_provider


@pytest.mark.parametrize(
    ("signal", "environ", "expected"),
    [
        ("traces", {}, [OTLPSpanExporter]),
        ("metrics", {}, [OTLPMetricExporter]),
        ("metrics", {"OTEL_METRICS_EXPORTER": "none"}, []),
        (
            "metrics",
            {"OTEL_METRICS_EXPORTER": "console, otlp"},
            [ConsoleMetricExporter, OTLPMetricExporter],
        ),
        ("metrics", {"OTEL_TRACES_EXPORTER": "none"}, [OTLPMetricExporter]),
    ],
    ids=["traces", "metrics", "none", "two", "other-signal"],
)
def test_exporters_are_those_of_the_variables(
    signal: str, environ: dict[str, str], expected: list[type]
) -> None:
    assert load_exporters(signal, environ) == expected


@pytest.mark.parametrize(
    "variable",
    ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"],
)
def test_exporter_that_is_not_installed_is_named(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "importlib.metadata.entry_points",
        lambda **wanted: [],
    )
    with pytest.raises(ConfigError, match="otlp_proto_grpc"):
        load_exporters("metrics", {variable: "grpc"})
    with pytest.raises(ConfigError, match="OTEL_METRICS_EXPORTER: no exporter 'x'"):
        load_exporters("metrics", {"OTEL_METRICS_EXPORTER": "x"})


@pytest.fixture(autouse=True)
def own_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a process in which no provider has been set."""
    from opentelemetry.util._once import Once

    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())


def run_without(package: str, code: str) -> str:
    """Run code in an interpreter that cannot import a package."""
    script = f"import sys; sys.modules[{package!r}] = None\n{textwrap.dedent(code)}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("opentelemetry.trace", "opentelemetry-api"),
        ("opentelemetry.sdk.trace", "opentelemetry-sdk"),
    ],
    ids=["api", "sdk"],
)
def test_missing_library_is_one_clear_error(module: str, package: str) -> None:
    output = run_without(
        module,
        """
        from djserve.errors import ConfigError
        from djserve.instrumentation.otel import Export
        try:
            Export({})
        except ConfigError as error:
            print(error.problems)
        """,
    )

    assert output == (
        f"['TRACING needs the package {package}: install \"djserve[otel]\"']\n"
    )


@pytest.mark.e2e
def test_library_is_looked_for_without_being_loaded() -> None:
    output = run_without(
        "opentelemetry.sdk",
        """
        from djserve.instrumentation.otel import require_tracing
        print(require_tracing(), "opentelemetry.trace" in sys.modules)
        """,
    )

    assert output == "None False\n"


def test_provider_of_the_project_is_kept() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

    export = Export({})
    export.tracer.start_span("a").end()
    export.close()
    # It is not ours to shut down.
    export.tracer.start_span("b").end()
    assert [span.name for span in exporter.get_finished_spans()] == ["a", "b"]


class Exporter(InMemorySpanExporter):
    """What an entry point names."""

    made: ClassVar[list[Exporter]] = []

    def __init__(self) -> None:
        super().__init__()
        self.made.append(self)


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which exporters were looked for; "known" is the one there is."""
    asked: list[str] = []
    value = f"{__name__}:Exporter"
    Exporter.made.clear()

    def find(group: str, name: str = "known") -> list[metadata.EntryPoint]:
        asked.append(name)
        entry = metadata.EntryPoint("known", value, group)
        return [] if name == "unknown" else [entry]

    monkeypatch.setattr(metadata, "entry_points", find)
    return asked


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ["otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ["otlp_proto_http"]),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ["otlp_proto_grpc"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, ["otlp_proto_grpc"]),
        ({"OTEL_TRACES_EXPORTER": "known, console"}, ["known", "console"]),
        ({"OTEL_TRACES_EXPORTER": "none"}, []),
        ({"OTEL_TRACES_EXPORTER": ""}, []),
    ],
    ids=["default", "otlp", "grpc", "traces-grpc", "two", "none", "empty"],
)
def test_exporters_are_those_of_the_environment(
    entry_points: list[str], environ: dict[str, str], expected: list[str]
) -> None:
    make_provider(environ).shutdown()

    assert entry_points == expected
    assert len(Exporter.made) == len(expected)


def test_unknown_exporter_is_one_clear_error(entry_points: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_provider({"OTEL_TRACES_EXPORTER": "unknown"})

    assert caught.value.problems == [
        "OTEL_TRACES_EXPORTER: no exporter 'unknown' is installed (there are: known)"
    ]


def test_last_spans_are_sent_at_the_end(entry_points: list[str]) -> None:
    export = Export({"OTEL_TRACES_EXPORTER": "known"})
    export.tracer.start_span("a").end()
    export.close()

    (exporter,) = Exporter.made
    assert [span.name for span in exporter.get_finished_spans()] == ["a"]


class SlowExporter(InMemorySpanExporter):
    """A collector that is away, until the test has looked."""

    has_looked = threading.Event()
    has_ended = threading.Event()

    def shutdown(self) -> None:
        self.has_looked.wait(60)
        self.has_ended.set()


def test_end_waits_no_longer_than_it_may(
    entry_points: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import djserve.instrumentation.otel as module

    monkeypatch.setattr(module, "SHUTDOWN_TIMEOUT", 600.0)
    monkeypatch.setitem(globals(), "Exporter", SlowExporter)
    export = Export({"OTEL_TRACES_EXPORTER": "known"})
    export.close(longest=0.0)

    assert not SlowExporter.has_ended.is_set()
    SlowExporter.has_looked.set()
    assert SlowExporter.has_ended.wait(60)
