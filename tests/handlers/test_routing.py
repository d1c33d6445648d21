"""Views looked up before the request exists, and when the result is used again."""

from __future__ import annotations

import asyncio
import sys
from contextvars import ContextVar
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.core.exceptions import SynchronousOnlyOperation
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.urls import (
    ResolverMatch,
    URLPattern,
    URLResolver,
    clear_url_caches,
    include,
    path,
    register_converter,
    resolve,
)
from django.urls.resolvers import RoutePattern
from django.utils import translation
from django.utils.decorators import sync_and_async_middleware
from django.utils.translation import gettext_lazy
from django.views import View

from djserve.handlers import ASGIHandler
from djserve.handlers.routing import (
    Route,
    attach_route,
    find_route,
    reusable_match,
)
from tests.handlers import agents
from tests.handlers.conversation import Conversation


def view(request: HttpRequest, number: int = 0) -> HttpResponse:
    return HttpResponse()


async def async_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


class ClassView(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class Broken:
    regex = "[0-9]+"

    def to_python(self, value: str) -> int:
        raise RuntimeError("the converter failed")

    def to_url(self, value: int) -> str:
        return str(value)


urlpatterns = [
    path("sync/", view),
    path("async/", async_view),
    path("class/", ClassView.as_view()),
    path("number/<int:number>/", view),
]


class Year:
    regex = "[0-9]{4}"

    def to_python(self, value: str) -> int:
        return int(value)

    def to_url(self, value: int) -> str:
        return str(value)


register_converter(Year, "year")

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class OfTenant:
    """Gives what a middleware has set by the time at which Django resolves paths."""

    regex = "[a-z]+"
    calls = 0

    def to_python(self, value: str) -> str:
        type(self).calls += 1
        if value == "other":
            raise ValueError
        return f"{value} of {tenant.get()}"

    def to_url(self, value: str) -> str:
        return value


class FromDatabase:
    regex = "[a-z]+"

    def to_python(self, value: str) -> str:
        asyncio.get_running_loop()
        raise SynchronousOnlyOperation

    def to_url(self, value: str) -> str:
        return value


register_converter(OfTenant, "of_tenant")
register_converter(FromDatabase, "from_database")


class Translated:
    urlpatterns = [path("", include([path(gettext_lazy("sync/"), view)]))]


class Converted:
    urlpatterns = [path("<year:number>/", view)]


def named(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(name)


async def async_named(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(name)


@sync_and_async_middleware
def with_tenant(get_response: Any) -> Any:
    if iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> Any:
            tenant.set("ann")
            return await get_response(request)

        return asynchronous

    def synchronous(request: HttpRequest) -> Any:
        tenant.set("ann")
        return get_response(request)

    return synchronous


class Tenants:
    urlpatterns = [
        path("in/", include([path("sync/<of_tenant:name>/", named)])),
        path("async/<of_tenant:name>/", async_named),
        path("asked/<from_database:name>/", async_view),
        path("plain/", view),
    ]


class Callable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


def find(url: str, **scope: Any) -> Route | None:
    return asyncio.run(find_route({"path": url, **scope}))


@pytest.fixture(autouse=True)
def _own_urls() -> Any:
    with override_settings(ROOT_URLCONF=sys.modules[__name__]):
        yield


@pytest.mark.parametrize(
    ("url", "is_async"), [("/sync/", False), ("/async/", True), ("/class/", True)]
)
def test_kind_of_view_is_known(url: str, is_async: bool) -> None:
    route = find(url)

    assert route is not None
    assert route.is_async is is_async


def test_path_that_is_not_found_has_no_route() -> None:
    assert find("/missing/") is None


def test_mount_point_is_taken_off_the_path() -> None:
    route = find("/mount/async/", root_path="/mount")

    assert route is not None
    assert route.path_info == "/async/"


def test_urls_that_cannot_be_imported_have_no_route() -> None:
    with override_settings(ROOT_URLCONF="no.such.module"):
        assert find("/") is None


def match_for_view(url: str) -> ResolverMatch:
    match = reusable_match(attach(url, RequestFactory().get(url)))
    assert match is not None
    return match


def attach(url: str, request: HttpRequest) -> HttpRequest:
    attach_route(request, find(url))
    return request


def test_match_is_used_again_once() -> None:
    request = attach("/number/7/", RequestFactory().get("/number/7/"))
    match = reusable_match(request)

    assert match is not None
    assert match.kwargs == {"number": 7}
    assert reusable_match(request) is None


RESOLVING = pytest.mark.parametrize(
    ("owner", "name"),
    [(URLResolver, "resolve"), (URLPattern, "resolve"), (ResolverMatch, "__init__")],
)
"""What agents replace to name their records, at the first request or in a thread."""


@RESOLVING
@pytest.mark.parametrize("form", ["plainly", "as_decorator", "as_proxy"])
def test_path_is_resolved_for_each_request_where_that_was_replaced(
    owner: type, name: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = attach("/sync/", RequestFactory().get("/sync/"))
    replaced = getattr(agents.Counted(), form)(getattr(owner, name))
    monkeypatch.setattr(owner, name, replaced)

    assert reusable_match(request) is None


@RESOLVING
def test_path_is_resolved_for_each_request_where_the_code_of_that_was_replaced(
    owner: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = attach("/sync/", RequestFactory().get("/sync/"))
    function = getattr(owner, name)
    monkeypatch.setattr(function, "__code__", agents.rewritten(function.__code__))

    assert reusable_match(request) is None


def test_request_without_a_route_is_resolved_by_django() -> None:
    assert reusable_match(RequestFactory().get("/sync/")) is None


def test_changed_path_is_resolved_again() -> None:
    request = attach("/sync/", RequestFactory().get("/sync/"))
    request.path_info = "/async/"

    assert reusable_match(request) is None


def test_changed_urls_are_resolved_again() -> None:
    request = attach("/sync/", RequestFactory().get("/sync/"))
    request.urlconf = "another"

    assert reusable_match(request) is None


@pytest.mark.parametrize(
    ("urls", "url"),
    [(Translated, "/sync/")],
    ids=["translated pattern"],
)
def test_changed_language_is_resolved_again_where_it_matters(
    urls: type, url: str
) -> None:
    with override_settings(USE_I18N=True, ROOT_URLCONF=urls):
        with translation.override("en"):
            request = attach(url, RequestFactory().get(url))
        with translation.override("de"):
            assert reusable_match(request) is None


def test_language_does_not_matter_to_plain_urls() -> None:
    with override_settings(USE_I18N=True), translation.override("en"):
        request = attach("/sync/", RequestFactory().get("/sync/"))
        with translation.override("de"):
            assert reusable_match(request) is not None


@pytest.mark.parametrize(
    ("urls", "url"),
    [(None, "/number/7/"), (Translated, "/sync/")],
)
def test_what_a_view_does_to_its_match_is_its_own(urls: type | None, url: str) -> None:
    with override_settings(ROOT_URLCONF=urls or sys.modules[__name__]):
        first, expected = match_for_view(url), resolve(url)
        assert vars(first).keys() == vars(expected).keys()
        first.kwargs["number"] = "changed"
        first.app_names.append("changed")
        again = match_for_view(url)

    assert repr(again) == repr(expected)


class Special(URLPattern):
    """A project's own kind of pattern, which may look at anything."""


@pytest.mark.parametrize(
    ("kind", "is_remembered"), [(URLPattern, True), (Special, False)]
)
def test_path_is_looked_up_once_where_nothing_can_change_that(
    kind: type[URLPattern], is_remembered: bool
) -> None:
    class Urls:
        urlpatterns = [kind(RoutePattern("sync/", is_endpoint=True), view)]

    with override_settings(ROOT_URLCONF=Urls):
        assert find("/sync/") is not None
        Urls.urlpatterns.clear()
        assert (find("/sync/") is not None) is is_remembered
        clear_url_caches()
        assert find("/sync/") is None


def test_view_without_a_hash_is_known_too() -> None:
    class Urls:
        urlpatterns = [path("", Callable())]

    with override_settings(ROOT_URLCONF=Urls):
        route = find("/")

    assert route is not None
    assert not route.is_async


@pytest.mark.parametrize(
    ("url", "is_async", "asked"),
    [("/in/sync/page/", False, 0), ("/async/page/", True, 1)],
)
def test_projects_converters_are_asked_by_django_alone(
    url: str, is_async: bool, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OfTenant, "calls", 0)
    with override_settings(ROOT_URLCONF=Tenants):
        for _ in range(3):
            route = find(url)
            request = RequestFactory().get(url)
            attach_route(request, route)

            assert route is not None
            assert route.is_async is is_async
            assert reusable_match(request) is None

    # For an asynchronous view once more, to see whether they work on the loop at all.
    assert OfTenant.calls == asked


def test_path_that_asks_no_converter_is_looked_up_once() -> None:
    class Urls:
        urlpatterns = [
            path("<of_tenant:name>/named/", named),
            path("number/<int:number>/", view),
        ]

    with override_settings(ROOT_URLCONF=Urls):
        assert match_for_view("/number/7/").kwargs == {"number": 7}
        Urls.urlpatterns.clear()
        assert match_for_view("/number/7/").kwargs == {"number": 7}
        clear_url_caches()
        assert find("/number/7/") is None


def test_path_of_a_translated_pattern_is_resolved_again_beside_a_converter() -> None:
    class Urls:
        urlpatterns = [
            path(gettext_lazy("sync/"), view),
            path("<of_tenant:name>/", named),
        ]

    with override_settings(ROOT_URLCONF=Urls):
        request = attach("/sync/", RequestFactory().get("/sync/"))

        assert reusable_match(request) is None


@pytest.mark.parametrize("url", ["/asked/page/", "/async/other/", "/nowhere/"])
def test_path_whose_converters_fail_on_the_loop_has_no_route(url: str) -> None:
    with override_settings(ROOT_URLCONF=Tenants):
        assert find(url) is None
        assert find(url) is None


@pytest.mark.parametrize(
    ("url", "content"),
    [("/in/sync/page/", b"page of ann"), ("/async/page/", b"page of ann")],
)
def test_middleware_comes_before_the_projects_converters(
    url: str, content: bytes
) -> None:
    middleware = [f"{__name__}.with_tenant"]
    with override_settings(ROOT_URLCONF=Tenants, MIDDLEWARE=middleware):
        client = Conversation(url)
        client.run(ASGIHandler())

    assert client.content == content
