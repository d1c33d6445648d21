"""Requests that djserve's own server answers without a task, beside the plain way."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import pytest
from channels.routing import ProtocolTypeRouter
from django.conf import settings as project_settings
from django.core.handlers import asgi
from django.core.signals import request_started
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from hypothesis import given, settings
from hypothesis import strategies as st

from djserve.asgi.application import ApplicationCalls, open_direct_lane
from djserve.asgi.scope import ScopeBuilder
from djserve.conf.schema import HTTPConfig, ServerConfig
from djserve.handlers import ASGIHandler, parallel_consumers
from djserve.handlers.channels import refuse_websockets
from djserve.handlers.direct import DirectCall
from djserve.handlers.runtime import make_lease, make_pool
from djserve.handlers.threads.asgiref_compat import enter_lease
from djserve.handlers.threads.pool import ThreadPool
from djserve.instrumentation import limits
from djserve.interfaces import ConnectionInfo
from djserve.server.factory import ConnectionFactory
from djserve.testing.transport import MemoryTransport
from tests.handlers.carried import CallCounter
from tests.support.logs import own_records
from tests.support.waiting import PATIENCE, settle, wait_until

EVENTS: list[str] = []
BEGUN = threading.Event()
GATE = threading.Event()
SEEN: ContextVar[str] = ContextVar("seen", default="nothing")

LARGE = 3 * ASGIHandler.chunk_size + 7


def hello(request: HttpRequest) -> HttpResponse:
    before = SEEN.get()
    SEEN.set("another request")
    name = request.GET.get("name", "world")
    return HttpResponse(f"hello {name}, saw {before}", headers={"X-Is": "hello"})


@csrf_exempt
def posted(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{len(request.body)} {sum(request.body)}")


def large(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"x" * LARGE)


def waits(request: HttpRequest) -> HttpResponse:
    BEGUN.set()
    GATE.wait(PATIENCE)
    EVENTS.append("view ended")
    return HttpResponse("late")


async def async_view(request: HttpRequest) -> HttpResponse:
    BEGUN.set()
    try:
        await asyncio.sleep(0 if GATE.is_set() else 300)
    except asyncio.CancelledError:
        EVENTS.append("view cancelled")
        raise
    return HttpResponse("from the loop")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        try:
            BEGUN.set()
            GATE.wait(PATIENCE)
            yield b"one,"
            yield b"two"
        finally:
            EVENTS.append("stream closed")

    return StreamingHttpResponse(parts())


def wrong_field(request: HttpRequest) -> HttpResponse:
    response = HttpResponse()
    response.headers._store["x"] = ("X", "a\r\nb")
    return response


def fails(request: HttpRequest) -> HttpResponse:
    raise ValueError("the view failed")


def exits(request: HttpRequest) -> HttpResponse:
    raise SystemExit


def cancels(request: HttpRequest) -> HttpResponse:
    raise asyncio.CancelledError


def swaps_urls(get_response: Any) -> Any:
    def middleware(request: HttpRequest) -> Any:
        if "swap" in request.GET:
            request.urlconf = other_urls  # type: ignore[assignment]
        return get_response(request)

    return middleware


class other_urls:
    urlpatterns = [path("", async_view)]


urlpatterns = [
    path("", hello),
    path("posted/", posted),
    path("large/", large),
    path("waits/", waits),
    path("async/", async_view),
    path("stream/", stream),
    path("wrong-field/", wrong_field),
    path("fails/", fails),
    path("exits/", exits),
    path("cancels/", cancels),
]


@pytest.fixture(autouse=True)
def project() -> Iterator[None]:
    EVENTS.clear()
    BEGUN.clear()
    GATE.clear()
    middleware = ["tests.handlers.test_direct.swaps_urls"]
    with override_settings(
        ROOT_URLCONF=__name__, MIDDLEWARE=middleware, ALLOWED_HOSTS=["*"]
    ):
        yield
    GATE.set()


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    pool = make_pool(2)
    yield pool
    GATE.set()
    assert pool.close(60)


Peer = TypeVar("Peer", bound=MemoryTransport)


class Site:
    """djserve's connections in memory, with an application behind them."""

    def __init__(
        self, application: Any, *, close_timeout: float = 0.0, **http: Any
    ) -> None:
        loop = asyncio.get_running_loop()
        config = ServerConfig(http=HTTPConfig(**http))
        self.calls = ApplicationCalls(application, loop, close_timeout)
        self.factory = ConnectionFactory(config, self.calls, ScopeBuilder())

    def connect(self) -> MemoryTransport:
        return self.open(MemoryTransport())

    def open(self, transport: Peer) -> Peer:
        info = ConnectionInfo(("192.0.2.1", 50000), ("192.0.2.2", 80))
        transport.set_protocol(self.factory.open_connection(transport, info))
        return transport

    def request(self, path: str) -> MemoryTransport:
        transport = self.connect()
        transport.feed(make_request("GET", path))
        return transport

    def has_task(self) -> bool:
        return any(isinstance(c, asyncio.Task) for c in self.calls._running.values())

    async def idle(self) -> None:
        await self.calls.wait(PATIENCE)
        assert len(self.calls) == 0


def make_request(method: str, path: str, content: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(content) if content else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: example.com\r\n".encode()
    return head + length + b"\r\n" + content


async def answer(
    application: Any, chunks: list[bytes], end: bytes = b"", **http: Any
) -> bytes:
    """Return what a connection sends for these bytes."""
    site = Site(application, **http)
    transport = site.connect()
    for chunk in chunks:
        transport.feed(chunk)
        await settle(3)
    async with asyncio.timeout(PATIENCE):
        while len(site.calls) or (end and end not in transport.data):
            await site.calls.wait(PATIENCE)
            await asyncio.sleep(0)
    return transport.data


def masked(data: bytes) -> bytes:
    return re.sub(rb"\r\ndate: [^\r]*", b"", data)


def plainly(handler: ASGIHandler) -> Any:
    """Return the handler as an application that the server does not know."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await handler(scope, receive, send)

    return application


requests = st.builds(
    make_request,
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.sampled_from(
        [
            "/",
            "/?name=there",
            "/?swap",
            "/posted/",
            "/large/",
            "/async/",
            "/stream/",
            "/fails/",
            "/missing/",
        ]
    ),
    st.sampled_from([b"", b"a=1", b"y" * 3000]),
)


@settings(max_examples=60, deadline=None)
@given(sent=st.lists(requests, min_size=1, max_size=5), cut=st.integers(1, 4000))
def test_answers_are_those_of_the_plain_way(sent: list[bytes], cut: int) -> None:
    GATE.set()
    pool = make_pool(2)
    handler = ASGIHandler(pool)
    # The last one closes the connection: all is there once that is.
    last = b"GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"
    data = b"".join(sent) + last
    chunks = [data[:cut], data[cut:]] if cut < len(data) else [data]

    with CallCounter() as counter:
        direct = asyncio.run(answer(handler, chunks, b"connection: close"))
    plain = asyncio.run(answer(plainly(handler), chunks, b"connection: close"))

    assert masked(direct) == masked(plain)
    assert counter.count >= 1
    assert pool.close(60)


def test_each_request_has_a_context_of_its_own(pool: ThreadPool) -> None:
    data = make_request("GET", "/") * 3

    with CallCounter() as counter:
        sent = asyncio.run(answer(ASGIHandler(pool), [data], b"x"))

    assert counter.count == 3
    assert sent.count(b"hello world, saw nothing") == 3


def test_context_is_that_of_the_server(pool: ThreadPool) -> None:
    async def serve() -> bytes:
        SEEN.set("the server")
        return await answer(ASGIHandler(pool), [make_request("GET", "/")])

    assert b"saw the server" in asyncio.run(serve())


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_content_that_has_come_is_taken(size: int, pool: ThreadPool) -> None:
    data = make_request("POST", "/posted/", b"\x01" * size)

    with CallCounter() as counter:
        sent = asyncio.run(answer(ASGIHandler(pool), [data]))

    assert counter.count == 1
    assert sent.endswith(b"\r\n\r\n%d %d" % (size, size))


@pytest.mark.parametrize(
    "change", [{"FILE_UPLOAD_MAX_MEMORY_SIZE": 999}, {"DJSERVE": {}}]
)
def test_content_that_is_to_come_or_to_be_spooled_takes_a_task(
    change: dict[str, Any], pool: ThreadPool
) -> None:
    data = make_request("POST", "/posted/", b"\x01" * 1000)
    chunks = [data] if "DJSERVE" not in change else [data[:-1], data[-1:]]

    with override_settings(**change), CallCounter() as counter:
        sent = asyncio.run(answer(ASGIHandler(pool), chunks, b"1000"))

    assert counter.count == 0
    assert sent.endswith(b"\r\n\r\n1000 1000")


class SlowTransport(MemoryTransport):
    """Full after each write; its peer reads all when ``drain`` is called."""

    def write(self, data: bytes, /) -> None:
        super().write(data)
        self.fill()

    def drain(self) -> None:
        self.received = [*getattr(self, "received", []), self.take()]
        super().drain()


def test_client_that_reads_slowly_holds_a_large_response_up(pool: ThreadPool) -> None:
    async def serve() -> None:
        site = Site(ASGIHandler(pool))
        transport = site.open(SlowTransport())
        with CallCounter() as counter:
            transport.feed(make_request("GET", "/large/"))
        assert counter.count == 1
        while len(site.calls):
            await wait_until(lambda: transport.is_full or not len(site.calls))
            await settle()
            transport.drain()
            await settle()
        chunk = ASGIHandler.chunk_size
        received = [part for part in (*transport.received, transport.data) if part]
        assert [len(part) // chunk for part in received] == [1, 1, 1, 0]
        assert received[-1] == b"7\r\nxxxxxxx\r\n0\r\n\r\n"

    asyncio.run(serve())


def test_response_waits_for_a_transport_that_is_full(pool: ThreadPool) -> None:
    async def serve() -> None:
        site = Site(ASGIHandler(pool))
        transport = site.connect()
        transport.feed(make_request("GET", "/"))
        transport.fill()
        await wait_until(site.has_task)
        await settle()
        assert transport.data == b""
        transport.drain()
        await site.idle()
        assert transport.data.endswith(b"hello world, saw nothing")

    asyncio.run(serve())


def test_stream_goes_on_in_a_task(pool: ThreadPool) -> None:
    GATE.set()

    with CallCounter() as counter:
        sent = asyncio.run(answer(ASGIHandler(pool), [make_request("GET", "/stream/")]))

    assert counter.count == 1
    assert b"one," in sent
    assert sent.endswith(b"\r\n0\r\n\r\n")
    assert EVENTS == ["stream closed"]


def test_end_of_the_calls_waits_for_a_thread(pool: ThreadPool) -> None:
    async def serve() -> None:
        site = Site(ASGIHandler(pool))
        transport = site.request("/waits/")
        await wait_until(BEGUN.is_set)
        assert len(site.calls) == 1
        await site.calls.wait(0.01)
        assert len(site.calls) == 1
        GATE.set()
        await site.idle()
        assert transport.data.endswith(b"late")

    asyncio.run(serve())


def test_cancelled_before_its_thread_is_free_never_runs(pool: ThreadPool) -> None:
    async def serve() -> None:
        site = Site(ASGIHandler(pool))
        transport = site.request("/waits/")
        assert await site.calls.cancel_all(PATIENCE) == 1
        assert transport.data.startswith(b"HTTP/1.1 503 ")

    asyncio.run(serve())
    assert pool.close(60)
    assert EVENTS == []


def test_cancelled_in_its_thread_ends_with_the_view(pool: ThreadPool) -> None:
    async def serve() -> None:
        site = Site(ASGIHandler(pool))
        transport = site.request("/waits/")
        await wait_until(BEGUN.is_set)
        assert await site.calls.cancel_all(0.01) == 1
        assert await site.calls.cancel_all(0.01) == 1
        assert len(site.calls) == 1
        GATE.set()
        await site.idle()
        assert transport.data.startswith(b"HTTP/1.1 ")

    asyncio.run(serve())
    assert EVENTS == ["view ended"]


@pytest.mark.parametrize("path", ["/?swap", "/stream/"])
def test_cancelled_cancels_a_coroutine_and_closes_a_stream(
    path: str, pool: ThreadPool
) -> None:
    async def serve() -> None:
        site = Site(ASGIHandler(pool))
        transport = site.request(path)
        await wait_until(BEGUN.is_set)
        await site.calls.cancel_all(0.01)
        GATE.set()
        await site.idle()
        assert b"two" not in transport.data

    asyncio.run(serve())
    assert EVENTS.pop() == ("view cancelled" if path == "/?swap" else "stream closed")
    assert EVENTS == []


def test_client_that_leaves_cancels_a_coroutine(
    pool: ThreadPool, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve() -> None:
        site = Site(ASGIHandler(pool))
        transport = site.request("/?swap")
        await wait_until(BEGUN.is_set)
        transport.lose()
        await site.idle()
        assert transport.data == b""

    asyncio.run(serve())
    assert EVENTS == ["view cancelled"]
    assert own_records(caplog) == []


def test_client_that_leaves_lets_a_view_end(
    pool: ThreadPool, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve() -> None:
        site = Site(ASGIHandler(pool))
        transport = site.request("/waits/")
        await wait_until(BEGUN.is_set)
        transport.lose()
        await settle()
        assert len(site.calls) == 1
        GATE.set()
        await site.idle()
        assert transport.data == b""

    asyncio.run(serve())
    assert EVENTS == ["view ended"]
    assert own_records(caplog) == []


def test_client_that_leaves_while_its_stream_begins_has_it_closed(
    pool: ThreadPool, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve() -> None:
        site = Site(ASGIHandler(pool))
        transport = site.request("/stream/")
        await wait_until(BEGUN.is_set)
        transport.lose()
        GATE.set()
        await site.idle()

    asyncio.run(serve())
    assert EVENTS == ["stream closed"]
    assert own_records(caplog) == []


def test_call_that_outlives_its_client_is_cancelled_in_time(pool: ThreadPool) -> None:
    async def serve() -> None:
        site = Site(ASGIHandler(pool), close_timeout=5.0)
        transport = site.request("/waits/")
        await wait_until(BEGUN.is_set)
        (call,) = site.calls._running.values()
        assert isinstance(call, DirectCall)
        transport.lose()
        moments = (100.0, 104.0, 105.0)
        states = []
        for now in moments:
            site.calls.tick(now)
            states.append(call.is_cancelled)
        assert states == [False, False, True]
        GATE.set()
        await site.idle()

    asyncio.run(serve())


def test_request_that_takes_too_long_is_answered_503(pool: ThreadPool) -> None:
    async def serve() -> None:
        site = Site(ASGIHandler(pool), request_timeout=5.0)
        transport = site.request("/waits/")
        await wait_until(BEGUN.is_set)
        (connection,) = site.factory.connections
        connection.tick(100.0)
        connection.tick(105.0)
        assert transport.data.startswith(b"HTTP/1.1 503 ")
        GATE.set()
        await site.idle()
        assert transport.data.count(b"HTTP/1.1 ") == 1

    asyncio.run(serve())


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/wrong-field/", "broke ASGI"),
        ("/exits/", "raised an exception"),
        ("/cancels/", "raised an exception"),
    ],
)
def test_fault_is_logged_once_and_answered_500(
    path: str, said: str, pool: ThreadPool, caplog: pytest.LogCaptureFixture
) -> None:
    handler = ASGIHandler(pool)
    with CallCounter() as counter:
        sent = asyncio.run(answer(handler, [make_request("GET", path)]))
    records = own_records(caplog)

    assert counter.count == 1
    assert sent.startswith(b"HTTP/1.1 500 ")
    assert [said in record.getMessage() for record in records] == [True]
    assert records[0].levelno == logging.ERROR
    assert records[0].exc_info is not None


@pytest.mark.parametrize("way", [lambda handler: handler, plainly])
def test_stop_iteration_is_the_same_fault_either_way(
    way: Callable[[ASGIHandler], Any],
    pool: ThreadPool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def stop(**kwargs: object) -> None:
        raise StopIteration

    request_started.connect(stop)
    try:
        sent = asyncio.run(answer(way(ASGIHandler(pool)), [make_request("GET", "/")]))
    finally:
        request_started.disconnect(stop)
    (record,) = own_records(caplog)

    assert sent.startswith(b"HTTP/1.1 500 ")
    assert record.exc_info is not None
    error = record.exc_info[1]
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, StopIteration)


def test_setting_that_is_missing_is_a_fault_as_ever(
    pool: ThreadPool, caplog: pytest.LogCaptureFixture
) -> None:
    handler = ASGIHandler(pool)
    with override_settings():
        del project_settings.ROOT_URLCONF
        sent = asyncio.run(answer(handler, [make_request("GET", "/")]))

    assert sent.startswith(b"HTTP/1.1 500 ")
    assert len(own_records(caplog)) == 1


@pytest.fixture
def named_settings(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], list[str]]:
    """Return what gives the settings that the log names for a 503."""
    monkeypatch.setattr(limits, "_next_log", {})
    monkeypatch.setattr(limits, "_unnamed", {})

    def find() -> list[str]:
        texts = [record.getMessage() for record in own_records(caplog)]
        return [text for line in texts for text in re.findall(r"setting (\w+)", line)]

    return find


def test_queue_that_is_full_refuses(
    pool: ThreadPool, named_settings: Callable[[], list[str]]
) -> None:
    limits = {"DJSERVE": {"THREAD_QUEUE_LIMIT": 1}}

    async def serve() -> None:
        handler = ASGIHandler(pool)
        site = Site(handler)
        transports = [site.request("/waits/") for _ in range(4)]
        await wait_until(lambda: transports[3].data)
        assert transports[3].data.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in transports[3].data.lower()
        assert transports[2].data == b""
        GATE.set()
        await site.idle()
        assert all(item.data.endswith(b"late") for item in transports[:3])

    with override_settings(**limits):
        asyncio.run(serve())
    assert named_settings() == ["THREAD_QUEUE_LIMIT"]


def test_request_that_waits_too_long_for_a_thread_is_refused(
    named_settings: Callable[[], list[str]],
) -> None:
    pool = make_pool(1, wait_limit=0.05)

    async def serve() -> None:
        site = Site(ASGIHandler(pool))
        first, second = (site.request("/waits/") for _ in range(2))
        await wait_until(lambda: second.data)
        assert second.data.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in second.data.lower()
        assert first.data == b""
        GATE.set()
        await site.idle()
        assert first.data.endswith(b"late")

    asyncio.run(serve())
    assert pool.close(60)
    assert named_settings() == ["THREAD_WAIT_TIMEOUT"]


def test_nothing_is_left_for_the_garbage_collector(pool: ThreadPool) -> None:
    async def serve() -> list[weakref.ref[DirectCall]]:
        site = Site(ASGIHandler(pool))
        references = []
        for target in ("/", "/large/", "/stream/"):
            transport = site.request(target)
            (call,) = site.calls._running.values()
            assert isinstance(call, DirectCall)
            references.append(weakref.ref(call))
            del call
            await site.idle()
            transport.lose()
        return references

    GATE.set()
    gc.collect()
    gc.disable()
    try:
        references = asyncio.run(serve())
        # The last one may still be on its thread's stack.
        assert pool.close(60)
        assert [reference() for reference in references] == [None, None, None]
    finally:
        gc.enable()


def test_path_of_an_async_view_is_looked_up_once(
    pool: ThreadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find_route(scope: object) -> None:
        raise AssertionError("its route was found before")

    monkeypatch.setattr("djserve.handlers.handler.find_route", find_route)
    GATE.set()
    handler = ASGIHandler(pool)

    sent = asyncio.run(answer(handler, [make_request("GET", "/async/")]))

    assert sent.endswith(b"from the loop")


def test_route_that_is_found_early_belongs_to_its_request(
    pool: ThreadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find_route(scope: object) -> None:
        raise AssertionError("its route was found before")

    monkeypatch.setattr("djserve.handlers.handler.find_route", find_route)
    GATE.set()

    async def main() -> list[bytes]:
        site = Site(ASGIHandler(pool))
        # In one turn of the loop, before any of their tasks has begun.
        clients = [site.request("/async/") for _ in range(3)]
        await site.idle()
        return [client.data for client in clients]

    assert all(sent.endswith(b"from the loop") for sent in asyncio.run(main()))


# Which applications are known


async def lane_of(application: Any) -> object:
    calls = ApplicationCalls(application, asyncio.get_running_loop(), 0.0)
    return open_direct_lane(application, calls)


class Proxy:
    """What tracing tools put around an application: it answers for all attributes."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Subclass(ASGIHandler):
    pass


@pytest.mark.parametrize(
    ("wrap", "is_known"),
    [
        (lambda handler: handler, True),
        (parallel_consumers, True),
        (lambda handler: parallel_consumers(refuse_websockets(handler)), True),
        (
            lambda handler: parallel_consumers(
                ProtocolTypeRouter({"http": handler, "websocket": handler})
            ),
            True,
        ),
        (lambda handler: parallel_consumers(ProtocolTypeRouter({})), False),
        (lambda handler: parallel_consumers(plainly(handler)), False),
        (lambda handler: ProtocolTypeRouter({"http": handler}), False),
        (Proxy, False),
        (lambda handler: Proxy(parallel_consumers(handler)), False),
        (lambda handler: Subclass(), False),
        (lambda handler: asgi.ASGIHandler(), False),
    ],
)
def test_lane_is_open_to_what_passes_requests_on_unchanged(
    wrap: Any, is_known: bool
) -> None:
    lane = asyncio.run(lane_of(wrap(ASGIHandler())))

    assert (lane is not None) is is_known


def test_no_lane_where_a_caller_says_where_threads_are(pool: ThreadPool) -> None:
    async def within() -> object:
        enter_lease(make_lease(pool))
        return await lane_of(ASGIHandler(pool))

    assert asyncio.run(within()) is None
