from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from djserve.errors import ConfigError
from djserve.instrumentation.notes import current_trace_id
from djserve.instrumentation.tracing import (
    DISCONNECTED,
    ServerSpan,
    current_span,
    describe,
    find_method,
)

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

Record = Callable[..., ReadableSpan]


def make_scope(*headers: tuple[bytes, bytes], **changes: Any) -> dict[str, Any]:
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": "/a",
        "http_version": "1.1",
        "headers": list(headers),
        "client": ("192.0.2.1", 4000),
        "server": ("127.0.0.1", 8000),
    }
    return scope | changes


@pytest.fixture
def record() -> Record:
    """Give ``record(*actions, scope=...)``: the span after they were done to it."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def record(
        *actions: Callable[[ServerSpan], Any], scope: dict[str, Any] | None = None
    ) -> ReadableSpan:
        span = ServerSpan(provider.get_tracer("test"), scope or make_scope())
        for action in actions:
            action(span)
        assert [span.release(), span.release()] == [False, True]
        return exporter.get_finished_spans()[-1]

    return record


def test_span_is_the_server_s_and_named_by_its_method(record: Record) -> None:
    span = record()

    assert (span.name, span.kind, span.parent) == ("GET", SpanKind.SERVER, None)


def test_request_is_described_by_the_conventions() -> None:
    scope = make_scope((b"host", b"example.com:81"), (b"user-agent", b"curl"))

    assert describe(scope, "GET") == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/a",
        "network.protocol.version": "1.1",
        "client.address": "192.0.2.1",
        "server.address": "example.com",
        "server.port": 81,
        "user_agent.original": "curl",
    }


@pytest.mark.parametrize(
    ("host", "scheme", "address", "port"),
    [
        (b"example.com", "https", "example.com", 443),
        (b"example.com", "ws", "example.com", 80),
        (b"[2001:db8::1]", "http", "2001:db8::1", 80),
        (b"[2001:db8::1]:81", "http", "2001:db8::1", 81),
    ],
    ids=["https", "websocket", "ipv6", "ipv6-port"],
)
def test_server_is_the_one_that_the_client_names(
    host: bytes, scheme: str, address: str, port: int
) -> None:
    found = describe(make_scope((b"host", host), scheme=scheme), "GET")

    assert (found["server.address"], found["server.port"]) == (address, port)


def test_server_without_a_name_is_the_socket_s() -> None:
    assert describe(make_scope(), "GET")["server.port"] == 8000

    found = describe(make_scope(server=("/run/a", None), client=None), "GET")
    assert found["server.address"] == "/run/a"
    assert "server.port" not in found
    assert "client.address" not in found


def test_server_that_is_not_known_is_left_out() -> None:
    assert "server.address" not in describe(make_scope(server=None), "GET")


def test_method_that_nobody_knows_makes_no_name_of_its_own(record: Record) -> None:
    span = record(scope=make_scope(method="PURGE"))

    assert span.name == "HTTP"
    assert span.attributes is not None
    assert span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["http.request.method_original"] == "PURGE"


@pytest.mark.parametrize(
    ("version", "method"), [("1.1", "GET"), ("2", "CONNECT"), ("3", "CONNECT")]
)
def test_method_of_a_websocket_follows_from_the_version(
    version: str, method: str
) -> None:
    assert find_method({"type": "websocket", "http_version": version}) == method


def test_caller_is_the_parent(record: Record) -> None:
    headers = [
        (b"traceparent", PARENT),
        (b"tracestate", b"a=1"),
        (b"tracestate", b"b=2"),
    ]
    span = record(scope=make_scope(*headers))

    assert span.parent is not None
    assert span.parent.is_remote
    assert trace.format_span_id(span.parent.span_id) == "b7ad6b7169203331"
    assert span.context is not None
    assert trace.format_trace_id(span.context.trace_id) == TRACE_ID
    assert span.context.trace_state.to_header() == "a=1,b=2"


@pytest.mark.parametrize(
    "values",
    [[b"rubbish"], [PARENT, PARENT], [PARENT[:-3]], [b"ff" + PARENT[2:]]],
    ids=["rubbish", "two", "short", "version"],
)
def test_caller_that_is_not_understood_is_no_parent(
    record: Record, values: list[bytes]
) -> None:
    span = record(scope=make_scope(*((b"traceparent", value) for value in values)))

    assert span.parent is None


def test_span_is_current_where_it_was_entered(record: Record) -> None:
    def enter(span: ServerSpan) -> None:
        span.enter()
        assert current_span() is span
        assert current_trace_id.get() == span.trace_id
        own = trace.get_current_span().get_span_context()
        assert trace.format_trace_id(own.trace_id) == span.trace_id

    contextvars.copy_context().run(record, enter)
    assert current_span() is None


def test_trace_that_nobody_records_still_has_its_name() -> None:
    tracer = trace.NoOpTracerProvider().get_tracer("test")

    assert ServerSpan(tracer, make_scope()).trace_id == ""
    assert ServerSpan(tracer, make_scope((b"traceparent", PARENT))).trace_id == TRACE_ID


def test_route_gives_the_span_its_name(record: Record) -> None:
    span = record(lambda span: span.set_route("/a/<int:pk>/"))

    assert span.name == "GET /a/<int:pk>/"
    assert span.attributes is not None
    assert span.attributes["http.route"] == "/a/<int:pk>/"


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (200, None, StatusCode.UNSET),
        (404, None, StatusCode.UNSET),
        (500, "500", StatusCode.ERROR),
        (503, "503", StatusCode.ERROR),
    ],
)
def test_status_tells_whether_the_server_failed(
    record: Record, status: int, error: str | None, code: StatusCode
) -> None:
    span = record(lambda span: span.set_status(status))

    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == status
    assert span.attributes.get("error.type") == error
    assert span.status.status_code is code


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (KeyError("a"), "KeyError"),
        (ConfigError(["a"]), "djserve.errors.ConfigError"),
    ],
    ids=["builtin", "imported"],
)
def test_exception_is_recorded_and_stays_the_reason(
    record: Record, error: Exception, name: str
) -> None:
    span = record(
        lambda span: span.record_fault(error),
        lambda span: span.set_status(500),
        lambda span: span.record_disconnect(),
    )

    assert span.attributes is not None
    assert span.attributes["error.type"] == name
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]


def test_client_that_went_is_nobody_s_fault(record: Record) -> None:
    span = record(lambda span: span.record_disconnect())

    assert span.attributes is not None
    assert span.attributes["error.type"] == DISCONNECTED
    assert span.status.status_code is StatusCode.UNSET


def test_close_of_a_websocket_is_told(record: Record) -> None:
    span = record(lambda span: span.set_close_code(1001))

    assert span.attributes is not None
    assert span.attributes["djserve.websocket.close_code"] == 1001


def test_fields_are_listed_for_propagators_that_ask() -> None:
    from djserve.instrumentation.tracing import FIELDS

    assert FIELDS.keys([(b"a", b"1"), (b"b", b"2")]) == ["a", "b"]
    assert FIELDS.get([(b"a", b"1")], "A") == ["1"]
