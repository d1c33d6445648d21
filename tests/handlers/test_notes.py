from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler as DjangoHandler
from django.core.handlers.base import BaseHandler
from django.core.signals import got_request_exception
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, override_settings
from django.urls import ResolverMatch, get_resolver, include, path
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from djserve.asgi.types import Message, Scope
from djserve.handlers import patches
from djserve.handlers.handler import ASGIHandler
from djserve.handlers.notes import note_requests, note_views, trace_django
from djserve.handlers.routing import LOOKUP
from djserve.handlers.sync_lane import SyncHandler
from djserve.instrumentation.notes import DJANGO_REQUEST, REQUEST, take_notes, take_view
from djserve.instrumentation.tracing import ServerSpan


@pytest.fixture(autouse=True)
def _noting(monkeypatch: pytest.MonkeyPatch) -> None:
    create_request = DjangoHandler.create_request
    monkeypatch.setattr(DjangoHandler, "create_request", create_request)
    note_requests()


def make_scope(**values: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": "/", "headers": [], **values}


def test_request_is_noted_where_notes_are_taken() -> None:
    scope = make_scope(extensions={})
    notes = take_notes(scope)
    request, refusal = DjangoHandler().create_request(scope, BytesIO())

    assert refusal is None
    assert request is not None
    assert notes[REQUEST] is request


@pytest.mark.parametrize("extensions", [{}, {"extensions": {}}])
def test_other_requests_are_made_as_ever(extensions: dict[str, Any]) -> None:
    scope = make_scope(**extensions)
    request, _ = DjangoHandler().create_request(scope, BytesIO())

    assert request is not None
    assert scope == make_scope(**extensions)


def test_request_is_left_with_its_scope_until_its_end() -> None:
    note_views()
    scope = make_scope(extensions={})
    request, _ = DjangoHandler().create_request(scope, BytesIO())
    assert request is not None
    assert scope["extensions"] == {DJANGO_REQUEST: request}

    request.resolver_match = ResolverMatch(print, (), {}, "cart", namespaces=["shop"])
    assert take_view(scope) == "shop:cart"
    assert scope["extensions"] == {}


def test_scope_without_extensions_is_left_alone() -> None:
    note_views()
    scope = make_scope()
    DjangoHandler().create_request(scope, BytesIO())

    assert scope == make_scope()
    assert take_view(scope) == ""


def view(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponse()


async def async_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def broken(request: HttpRequest) -> HttpResponse:
    raise LookupError("lost")


async def async_broken(request: HttpRequest) -> HttpResponse:
    raise LookupError("lost")


shop = [path("<int:number>/", view), path("async/", async_view)]
urlpatterns = [
    path("shop/", include(shop)),
    path("broken/", broken),
    path("async-broken/", async_broken),
]


@pytest.fixture
def _traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trace Django for one test."""
    for handler in (BaseHandler, ASGIHandler, SyncHandler):
        monkeypatch.setattr(handler, "resolve_request", handler.resolve_request)
    expected = patches._expected_resolve
    monkeypatch.setattr(patches, "_expected_resolve", expected)
    receivers = list(got_request_exception.receivers)
    trace_django()
    with override_settings(
        ROOT_URLCONF=sys.modules[__name__], MIDDLEWARE=[], DEBUG=False
    ):
        yield
    got_request_exception.receivers[:] = receivers
    got_request_exception.sender_receivers_cache.clear()


def serve(handler: Any, url: str, **changes: Any) -> ReadableSpan:
    """Let a handler answer one request; return the request's span."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    request: Any = AsyncRequestFactory().get(url)
    scope = request.scope | changes

    async def run(scope: Scope) -> None:
        span = ServerSpan(provider.get_tracer("test"), scope)
        span.enter()
        incoming: asyncio.Queue[Message] = asyncio.Queue()
        incoming.put_nowait({"type": "http.request", "body": b""})

        async def send(message: Message) -> None:
            """Leave the response alone."""

        await handler(scope, incoming.get, send)
        span.release()
        span.release()

    contextvars.copy_context().run(asyncio.run, run(scope))
    (span,) = exporter.get_finished_spans()
    return span


@pytest.mark.usefixtures("_traced")
@pytest.mark.parametrize("handler", [ASGIHandler, DjangoHandler])
@pytest.mark.parametrize(
    ("url", "route"),
    [
        ("/shop/5/", "/shop/<int:number>/"),
        ("/shop/async/", "/shop/async/"),
        ("/broken/", "/broken/"),
    ],
)
def test_span_has_the_route(handler: type[Any], url: str, route: str) -> None:
    span = serve(handler(), url)

    assert span.name == f"GET {route}"


@pytest.mark.parametrize("url", ["/shop/5/", "/shop/async/"])
@pytest.mark.usefixtures("_traced")
def test_path_is_resolved_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lane is chosen by the match, which Django then uses as it is."""
    handler = ASGIHandler()
    serve(handler, url)
    looked: list[str] = []
    urlconf: Any = sys.modules[__name__]
    resolver = get_resolver(urlconf)
    monkeypatch.delitem(resolver.__dict__, LOOKUP)
    resolve = resolver.resolve

    def count(path: str) -> ResolverMatch:
        looked.append(path)
        return resolve(path)

    monkeypatch.setattr(resolver, "resolve", count)
    span = serve(handler, url)

    assert looked == [url]
    assert span.attributes is not None
    assert str(span.attributes["http.route"]).startswith("/shop/")


@pytest.mark.usefixtures("_traced")
def test_resolution_that_an_agent_has_replaced_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[str] = []
    resolve = BaseHandler.resolve_request

    def replaced(self: BaseHandler, request: HttpRequest) -> ResolverMatch:
        called.append(request.path)
        return resolve(self, request)

    monkeypatch.setattr(BaseHandler, "resolve_request", replaced)
    patches.watch_resolution(lambda found: lambda *given: found(*given))
    serve(ASGIHandler(), "/shop/5/")

    assert called == ["/shop/5/"]


@pytest.mark.usefixtures("_traced")
def test_route_has_the_mount_point() -> None:
    span = serve(ASGIHandler(), "/mount/shop/async/", root_path="/mount")

    assert span.name == "GET /mount/shop/async/"


@pytest.mark.usefixtures("_traced")
def test_path_that_is_not_found_has_no_route() -> None:
    assert serve(ASGIHandler(), "/missing/").name == "GET"


@pytest.mark.usefixtures("_traced")
@pytest.mark.parametrize("handler", [ASGIHandler, DjangoHandler])
@pytest.mark.parametrize("url", ["/broken/", "/async-broken/"])
def test_exception_of_a_view_is_recorded(handler: type[Any], url: str) -> None:
    span = serve(handler(), url)

    assert span.attributes is not None
    assert span.attributes["error.type"] == "LookupError"
    assert [event.name for event in span.events] == ["exception"]


@pytest.mark.usefixtures("_traced")
def test_request_without_a_span_is_served_as_ever() -> None:
    request: Any = AsyncRequestFactory().get("/shop/5/")

    assert ASGIHandler().resolve_request(request).func is view
    got_request_exception.send(sender=None, request=request)
