"""Spans of a real server's requests, in the SDK's own memory."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import websockets.exceptions
import websockets.sync.client
from channels.routing import URLRouter
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from djserve.asgi.types import Application, Message, Receive, Scope, Send
from djserve.conf.parser import parse
from djserve.errors import ConfigError
from djserve.instrumentation.access_file import LineLogger
from djserve.instrumentation.access_log import AccessLog
from djserve.instrumentation.events import RequestRecord
from djserve.instrumentation.fan_out import combine
from djserve.instrumentation.tracing import DISCONNECTED
from djserve.interfaces import RequestHead
from djserve.net.twisted.reactor import Reactor
from djserve.server.lifecycle import Server, run_until_stopped
from djserve.server.tracing import ENDED, Tracing, create_tracing, open_tracing

pytestmark = pytest.mark.e2e

TIMEOUT = 60
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

provider = TracerProvider(shutdown_on_exit=False)


class Spans(InMemorySpanExporter):
    """An exporter that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._arrived = threading.Condition()

    def export(self, spans: Any) -> Any:
        result = super().export(spans)
        with self._arrived:
            self._arrived.notify_all()
        return result

    def wait(self, number: int = 1) -> list[ReadableSpan]:
        """Return the spans once there are that many, in the order of their ends."""
        with self._arrived:
            arrived = self._arrived.wait_for(
                lambda: len(self.get_finished_spans()) >= number, TIMEOUT
            )
        assert arrived, self.get_finished_spans()
        return list(self.get_finished_spans())


class Site:
    """An application with a way to each kind of end; its own spans are "inner"."""

    def __init__(self) -> None:
        self.entered = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        name = scope["path"].strip("/")
        await getattr(self, name)(scope, receive, send)

    async def plain(self, scope: Scope, receive: Receive, send: Send) -> None:
        with provider.get_tracer("site").start_as_current_span("inner"):
            await answer(send, b"ok")

    async def threaded(self, scope: Scope, receive: Receive, send: Send) -> None:
        def work() -> None:
            with provider.get_tracer("site").start_as_current_span("inner"):
                return

        await asyncio.to_thread(work)
        await answer(send, b"ok")

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        for number in range(3):
            await answer(send, b"%d" % number, more=True, start=not number)
        await answer(send, b"", start=False)

    async def raising(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("lost")

    async def silent(self, scope: Scope, receive: Receive, send: Send) -> None:
        return

    async def endless(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"first", more=True)
        self.entered.set()
        while (await receive())["type"] != "http.disconnect":
            continue

    async def late(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    async def echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            with provider.get_tracer("site").start_as_current_span("inner"):
                await send({"type": "websocket.send", "text": message["text"]})

    async def refused(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close"})

    async def unrouted(self, scope: Scope, receive: Receive, send: Send) -> None:
        await URLRouter([])(scope, receive, send)


async def answer(
    send: Send, body: bytes, *, more: bool = False, start: bool = True
) -> None:
    if start:
        head: Message = {"type": "http.response.start", "status": 200, "headers": []}
        await send(head)
    await send({"type": "http.response.body", "body": body, "more_body": more})


class Traced:
    """A server in a thread, whose requests are traced."""

    def __init__(self, spans: Spans, **settings: Any) -> None:
        own = TracerProvider(shutdown_on_exit=False)
        own.add_span_processor(SimpleSpanProcessor(spans))
        self.site = Site()
        tracing = create_tracing(own.get_tracer("test"))
        log = AccessLog(LineLogger(logging.getLogger("djserve.access")))
        self._ready = threading.Event()
        self._reactor = Reactor()
        self._server = Server(
            tracing.put_around(self.site),
            parse({"BIND": ["127.0.0.1:0"], "SHUTDOWN_TIMEOUT": 1.0, **settings}),
            self._reactor,
            request_log=combine([tracing, log]),
            on_ready=lambda server: self._ready.set(),
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(TIMEOUT)

    @property
    def address(self) -> str:
        return self._server.listeners[0].address

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(f"http://{self.address}{path}", timeout=TIMEOUT, **options)

    def stop(self) -> None:
        self._reactor.loop.call_soon_threadsafe(self._server.stop)
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        asyncio.set_event_loop(self._reactor.loop)
        run_until_stopped(self._server, self._reactor)
        self._reactor.dispose()


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    # The site's own spans end in the same place.
    processor = SimpleSpanProcessor(spans)
    provider.add_span_processor(processor)
    yield spans
    processor.shutdown()


@pytest.fixture
def serve(spans: Spans) -> Iterator[Callable[..., Traced]]:
    """Give ``serve(**settings)``: a server that is stopped at the test's end."""
    started: list[Traced] = []

    def start(**settings: Any) -> Traced:
        started.append(Traced(spans, **settings))
        return started[-1]

    yield start
    for traced in started:
        traced.stop()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_request_has_a_span_and_its_caller_is_the_parent(
    serve: Callable[..., Traced], spans: Spans
) -> None:
    serve().get("/plain", headers={"traceparent": PARENT})

    inner, server = spans.wait(2)
    assert (inner.name, server.name) == ("inner", "GET")
    assert server.parent is not None
    assert trace.format_span_id(server.parent.span_id) == "b7ad6b7169203331"
    assert inner.parent is not None and server.context is not None
    assert inner.parent.span_id == server.context.span_id
    found = attributes(server)
    assert found["http.response.status_code"] == 200
    assert found["client.address"] == "127.0.0.1"
    assert found["network.protocol.version"] == "1.1"


def test_span_of_a_thread_is_a_child(
    serve: Callable[..., Traced], spans: Spans
) -> None:
    serve().get("/threaded")

    inner, server = spans.wait(2)
    assert inner.parent is not None and server.context is not None
    assert inner.parent.span_id == server.context.span_id


def test_requests_of_one_connection_have_traces_of_their_own(
    serve: Callable[..., Traced], spans: Spans
) -> None:
    traced = serve()
    with httpx.Client(base_url=f"http://{traced.address}", timeout=TIMEOUT) as client:
        client.get("/plain")
        client.get("/plain")

    servers = [span for span in spans.wait(4) if span.name == "GET"]
    contexts = [span.context for span in servers if span.context is not None]
    assert len({context.trace_id for context in contexts}) == 2


def test_streamed_response_is_one_span(
    serve: Callable[..., Traced], spans: Spans
) -> None:
    assert serve().get("/stream").text == "012"

    (server,) = spans.wait()
    assert attributes(server)["http.response.status_code"] == 200
    assert "error.type" not in attributes(server)


def test_exception_of_the_application_is_recorded(
    serve: Callable[..., Traced], spans: Spans
) -> None:
    assert serve().get("/raising").status_code == 500

    (server,) = spans.wait()
    assert server.status.status_code is StatusCode.ERROR
    assert attributes(server)["error.type"] == "LookupError"
    assert attributes(server)["http.response.status_code"] == 500
    assert [event.name for event in server.events] == ["exception"]


def test_answer_of_the_server_itself_is_the_status(
    serve: Callable[..., Traced], spans: Spans
) -> None:
    assert serve().get("/silent").status_code == 500

    (server,) = spans.wait()
    assert attributes(server)["error.type"] == "500"


def test_request_that_takes_too_long_is_an_error(
    serve: Callable[..., Traced], spans: Spans
) -> None:
    assert serve(REQUEST_TIMEOUT=0.1).get("/late").status_code == 503

    (server,) = spans.wait()
    assert attributes(server)["error.type"] == "503"
    assert server.events == ()


def test_client_that_goes_is_told_apart(
    serve: Callable[..., Traced], spans: Spans
) -> None:
    traced = serve()
    with httpx.stream("GET", f"http://{traced.address}/endless", timeout=TIMEOUT):
        assert traced.site.entered.wait(TIMEOUT)

    (server,) = spans.wait()
    assert attributes(server)["error.type"] == DISCONNECTED
    assert attributes(server)["http.response.status_code"] == 200
    assert server.status.status_code is StatusCode.UNSET


def test_websocket_is_one_span_with_its_code(
    serve: Callable[..., Traced], spans: Spans
) -> None:
    url = f"ws://{serve().address}/echo"
    with websockets.sync.client.connect(url, open_timeout=TIMEOUT) as client:
        client.send("a")
        assert client.recv(TIMEOUT) == "a"

    inner, server = spans.wait(2)
    assert inner.parent is not None and server.context is not None
    assert inner.parent.span_id == server.context.span_id
    found = attributes(server)
    assert (found["url.scheme"], found["http.response.status_code"]) == ("ws", 101)
    assert found["djserve.websocket.close_code"] == 1000


def test_refused_websocket_has_its_status(
    serve: Callable[..., Traced], spans: Spans
) -> None:
    url = f"ws://{serve().address}/refused"
    with pytest.raises(websockets.exceptions.InvalidStatus):
        websockets.sync.client.connect(url, open_timeout=TIMEOUT)

    (server,) = spans.wait()
    assert attributes(server)["http.response.status_code"] == 403


def test_websocket_without_a_route_is_no_fault(
    serve: Callable[..., Traced], spans: Spans
) -> None:
    url = f"ws://{serve().address}/unrouted"
    with pytest.raises(websockets.exceptions.InvalidStatus):
        websockets.sync.client.connect(url, open_timeout=TIMEOUT)

    (server,) = spans.wait()
    assert attributes(server)["http.response.status_code"] == 404
    assert server.status.status_code is StatusCode.UNSET
    assert server.events == ()


def test_stream_of_http2_has_a_span(
    serve: Callable[..., Traced], spans: Spans, require_program: Callable[..., str]
) -> None:
    url = f"http://{serve().address}/plain"
    curl = [require_program("curl"), "--http2-prior-knowledge", "-sS", url]
    done = subprocess.run(curl, capture_output=True, check=True, timeout=TIMEOUT)

    assert done.stdout == b"ok"
    _, server = spans.wait(2)
    assert attributes(server)["network.protocol.version"] == "2"
    assert attributes(server)["server.address"] == "127.0.0.1"


def test_access_log_tells_the_trace(
    serve: Callable[..., Traced], spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "djserve.access"):
        serve().get("/plain", headers={"traceparent": PARENT})
        spans.wait(2)

    (line,) = [r.message for r in caplog.records if r.name == "djserve.access"]
    assert line.endswith(" trace=0af7651916cd43dd8448eb211c80319c")


def make_tracing(spans: Spans) -> Tracing:
    own = TracerProvider(shutdown_on_exit=False)
    own.add_span_processor(SimpleSpanProcessor(spans))
    return create_tracing(own.get_tracer("test"))


def make_scope(**changes: Any) -> Scope:
    scope = {"scheme": "http", "path": "/", "http_version": "1.1", "headers": []}
    names = {"type": "http", "method": "GET", "client": None, "server": None}
    return scope | names | changes


def make_record(scope: Scope | None, status: int = 0) -> RequestRecord:
    record = RequestRecord(RequestHead("GET", b"/", b"", [], "1.1"), None, "http")
    record.scope = scope
    record.status = status
    return record


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Do nothing."""


def call(application: Application, scope: Scope) -> None:
    async def unused(*args: Any) -> Any:
        raise NotImplementedError

    asyncio.run(application(scope, unused, unused))  # type: ignore[arg-type]


def test_call_that_begins_after_its_client_went_has_a_span(spans: Spans) -> None:
    tracing, scope = make_tracing(spans), make_scope()
    tracing.request_finished(make_record(scope))
    assert ENDED in scope
    call(tracing.put_around(nothing), scope)

    (span,) = spans.wait()
    assert attributes(span)["error.type"] == DISCONNECTED


def test_websocket_whose_client_went_first_has_a_span(spans: Spans) -> None:
    tracing = make_tracing(spans)
    scope = make_scope(type="websocket", scheme="ws")
    record = make_record(scope)
    tracing.websocket_connecting(record)
    call(tracing.put_around(nothing), scope)
    tracing.websocket_rejected(record)

    (span,) = spans.wait()
    assert attributes(span)["error.type"] == DISCONNECTED


class Breaking(SimpleSpanProcessor):
    """A processor of a project's, which fails at the end of each span."""

    def on_end(self, span: ReadableSpan) -> None:
        raise ValueError("planned")


def test_processor_that_fails_keeps_no_exchange_from_its_end(
    spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    broken = TracerProvider(shutdown_on_exit=False)
    broken.add_span_processor(Breaking(spans))
    tracing, scope = create_tracing(broken.get_tracer("test")), make_scope()
    call(tracing.put_around(nothing), scope)
    tracing.request_finished(make_record(scope))

    assert "A span could not be ended" in caplog.text
    assert tracing._spans == {}


class Speechless(Exception):
    def __str__(self) -> str:
        raise LookupError("no words")


def test_exception_without_words_is_raised_on_as_it_is(spans: Spans) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise Speechless

    with pytest.raises(Speechless):
        call(make_tracing(spans).put_around(fail), make_scope())


def test_request_that_no_application_has_seen_has_no_span(spans: Spans) -> None:
    tracing = make_tracing(spans)
    for scope in (None, make_scope()):
        record = make_record(scope, 400)
        tracing.request_finished(record)
        tracing.websocket_accepted(record)
        tracing.websocket_rejected(record)
        tracing.websocket_closed(record)
        assert record.trace_id == ""

    assert spans.get_finished_spans() == ()


def test_lifespan_is_no_request(spans: Spans) -> None:
    call(make_tracing(spans).put_around(nothing), {"type": "lifespan"})

    assert spans.get_finished_spans() == ()


def test_tracing_that_is_off_is_not_there() -> None:
    with open_tracing(parse({}).tracing, 1.0) as tracing:
        assert tracing is None


def test_wrong_exporter_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "carrier-pigeon")
    with (
        pytest.raises(ConfigError, match="carrier-pigeon"),
        open_tracing(parse({"TRACING": True}).tracing, 1.0),
    ):
        raise NotImplementedError
