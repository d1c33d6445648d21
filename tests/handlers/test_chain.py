"""The asynchronous chain: what is coalesced, and what is called as Django does."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings as project_settings
from django.core.exceptions import (
    ImproperlyConfigured,
    MiddlewareNotUsed,
    PermissionDenied,
)
from django.core.handlers import base
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from django.utils.deprecation import MiddlewareMixin

from djserve.handlers import ASGIHandler
from djserve.handlers.chain import AsyncFork
from djserve.handlers.layers import LayerRun, ViewRun
from tests.handlers import agents, middleware
from tests.handlers.conversation import Conversation
from tests.support.logs import own_records

HERE = __name__


class Hooks(MiddlewareMixin):
    def process_view(self, request: HttpRequest, *args: Any) -> None:
        pass

    def process_template_response(self, request: HttpRequest, response: Any) -> Any:
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> None:
        pass


class AsyncView(MiddlewareMixin):
    async def process_view(self, request: HttpRequest, *args: Any) -> None:
        pass


class AsyncOnly:
    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[..., Any]) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> Any:
        return await self.get_response(request)


def sync_only(get_response: Callable[..., Any]) -> Callable[..., Any]:
    def middleware(request: HttpRequest) -> Any:
        return get_response(request)

    return middleware


def unused(get_response: Callable[..., Any]) -> Any:
    raise MiddlewareNotUsed("not needed here")


def nothing(get_response: Callable[..., Any]) -> Any:
    return None


class Incapable(MiddlewareMixin):
    sync_capable = False
    async_capable = False


def load(*names: str, **settings: Any) -> Any:
    paths = [f"{HERE}.{name}" for name in names]
    with override_settings(MIDDLEWARE=paths, **settings):
        return ASGIHandler()


def chain_of(handler: Any) -> Any:
    return handler._middleware_chain


def test_neighbours_that_have_only_hooks_become_one_run() -> None:
    chain = chain_of(load("Hooks", "Hooks", "Hooks"))

    assert isinstance(chain, LayerRun)
    # The innermost layer converts the exceptions of the view.
    assert len(chain._layers) == 4


def test_no_middleware_leaves_the_conversion_of_exceptions() -> None:
    assert len(chain_of(load())._layers) == 1


def test_other_asynchronous_middleware_divides_the_runs() -> None:
    chain = chain_of(load("Hooks", "AsyncOnly", "Hooks"))

    assert len(chain._layers) == 2
    inner = chain._get_response
    assert isinstance(inner, AsyncOnly)
    fork = inner.get_response
    assert isinstance(fork, AsyncFork)
    assert len(fork.handler._layers) == 2  # type: ignore[attr-defined]


def test_chain_above_synchronous_middleware_is_synchronous() -> None:
    chain = chain_of(load("Hooks", "sync_only", "Hooks"))

    assert iscoroutinefunction(chain)
    assert not isinstance(chain, LayerRun)


def test_middleware_sees_an_asynchronous_handler() -> None:
    seen: list[bool] = []

    class Asks(MiddlewareMixin):
        def __init__(self, get_response: Callable[..., Any]) -> None:
            seen.append(iscoroutinefunction(get_response))
            super().__init__(get_response)

    globals()["Asks"] = Asks
    load("Asks")

    assert seen == [True]


def test_view_hooks_are_joined_in_order() -> None:
    handler = load("Hooks", "Hooks", "AsyncView", "Hooks")

    first, second, third = handler._view_middleware
    assert isinstance(first, ViewRun)
    assert iscoroutinefunction(second)
    assert isinstance(third, ViewRun)
    assert len(first._hooks) == 2


def test_other_hooks_are_those_of_django() -> None:
    handler = load("Hooks", "Hooks")

    assert len(handler._exception_middleware) == 2
    assert len(handler._template_response_middleware) == 2


def test_middleware_that_is_not_used_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG, logger="django.request"):
        chain = chain_of(load("Hooks", "unused", DEBUG=True))

    assert len(chain._layers) == 2
    assert "not needed here" in caplog.text


def test_middleware_that_is_none_is_an_error() -> None:
    with pytest.raises(ImproperlyConfigured, match="returned None"):
        load("nothing")


def test_middleware_that_is_capable_of_nothing_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="at least one of"):
        load("Incapable")


def test_middleware_may_return_a_response_unchanged() -> None:
    assert HttpResponse().status_code == 200


def sync_view(request: HttpRequest) -> HttpResponse:
    middleware.CALLED.append("view")
    return HttpResponse("from a thread")


async def async_view(request: HttpRequest) -> HttpResponse:
    middleware.CALLED.append("view")
    return HttpResponse("from the loop")


def failing_view(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied


async def failing_async_view(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied


urlpatterns = [
    path("sync/", sync_view),
    path("async/", async_view),
    path("failing-sync/", failing_view),
    path("failing-async/", failing_async_view),
]


@pytest.fixture
def make() -> Iterator[Any]:
    """Make a handler with some of the middleware that counts."""
    middleware.MADE.clear()
    middleware.CALLED.clear()

    def make(*names: str) -> Any:
        project_settings.MIDDLEWARE = [
            f"tests.handlers.middleware.{name}" for name in names
        ]
        return ASGIHandler()

    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        yield make


def ask(handler: Any, url: str) -> list[str]:
    """Make a request; return what was called."""
    middleware.CALLED.clear()
    client = Conversation(url)
    client.run(handler)
    assert client.status == (403 if "failing" in url else 200)
    return list(middleware.CALLED)


@pytest.mark.parametrize(
    "names",
    [
        ("hooks",),
        ("sync_only",),
        ("sync_function",),
        ("async_only",),
        ("unused",),
        ("hooks", "sync_only", "hooks"),
        ("hooks", "async_only", "hooks"),
        ("sync_function", "async_only", "sync_only"),
        ("async_only", "sync_only", "hooks", "async_only"),
        ("hooks", "unused", "sync_only"),
    ],
)
def test_one_instance_serves_both_lanes(names: tuple[str, ...], make: Any) -> None:
    handler = make(*names)

    in_sync = ask(handler, "/sync/")
    in_async = ask(handler, "/async/")
    again = ask(handler, "/sync/")

    assert in_sync == in_async == again
    assert in_sync.count("view") == 1
    assert Counter(names) == middleware.MADE


@pytest.mark.parametrize("names", [("hooks", "sync_only"), ("async_only", "hooks")])
def test_exceptions_of_either_view_pass_the_same_way(
    names: tuple[str, ...], make: Any
) -> None:
    handler = make(*names)

    assert ask(handler, "/failing-sync/") == ask(handler, "/failing-async/")


def test_second_instance_is_made_when_its_lane_is_first_used(make: Any) -> None:
    handler = make("plain_both", "hooks")

    assert ask(handler, "/async/")[0] == "plain in async"
    before = handler._sync_handler
    assert ask(handler, "/sync/")[0] == "plain in sync"
    made = handler._sync_handler
    ask(handler, "/sync/")

    assert before is None
    assert handler._sync_handler is made
    assert made is not None
    assert middleware.MADE == {"hooks": 1}


def test_middleware_that_can_be_made_once_leaves_one_lane(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    handler = make("only_async")

    assert ask(handler, "/sync/") == ["only in async", "view"]
    assert ask(handler, "/sync/") == ["only in async", "view"]
    assert caplog.text.count("all views take the asynchronous lane") == 1


COUNTS = ["counts", "counts_in_a_hook", "counts_in_sync", "counts_in_a_closure"]


@pytest.mark.parametrize("first", ["/sync/", "/async/"])
@pytest.mark.parametrize("name", COUNTS)
def test_middleware_counts_the_requests_of_both_lanes_together(
    name: str, first: str, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    handler = make(name)

    called = [ask(handler, url)[0] for url in (first, "/sync/", "/async/", "/sync/")]

    assert called == [f"call {number}" for number in range(1, 5)]
    assert not own_records(caplog)


def test_middleware_that_registers_something_is_made_once(make: Any) -> None:
    handler = make("only_once")

    assert ask(handler, "/sync/") == ask(handler, "/async/")
    assert middleware.MADE == {"only_once": 1, "both": 1}


@pytest.fixture(params=["load_middleware", "import_string", "converter"])
def agent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace what an agent replaces that does something to each middleware."""
    counted = agents.Counted()
    owner, name = {
        "load_middleware": (base.BaseHandler, "load_middleware"),
        "import_string": (base, "import_string"),
        "converter": (base, "convert_exception_to_response"),
    }[request.param]
    monkeypatch.setattr(owner, name, counted.as_decorator(getattr(owner, name)))
    return counted


@pytest.mark.parametrize("names", [("hooks", "both"), ("only_once",), ("sync_only",)])
@pytest.mark.parametrize("first", ["/sync/", "/async/"])
def test_agent_leaves_one_of_each_middleware_that_keeps_more(
    names: tuple[str, ...],
    first: str,
    agent: Any,
    make: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    handler = make(*names)

    for url in (first, "/sync/", "/async/"):
        assert ask(handler, url).count("view") == 1

    assert agent.calls > 0
    assert set(middleware.MADE.values()) <= {1}
    assert not own_records(caplog)


@pytest.mark.parametrize("name", COUNTS)
def test_agent_leaves_one_of_each_middleware_that_counts(
    name: str, agent: Any, make: Any
) -> None:
    handler = make(name)

    called = [ask(handler, url)[0] for url in ("/sync/", "/async/", "/sync/")]

    assert called == ["call 1", "call 2", "call 3"]


def test_agent_leaves_both_lanes_to_middleware_that_keeps_nothing(
    agent: Any, make: Any
) -> None:
    handler = make("plain_both")
    assert handler._sync_handler is None

    ask(handler, "/sync/")

    assert handler._sync_handler is not None


@pytest.mark.parametrize("url", ["/sync/", "/async/"])
@pytest.mark.parametrize("names", [("tokens",), ("hooks", "tokens", "sync_only")])
def test_token_of_one_hook_is_good_in_another(
    url: str, names: tuple[str, ...], make: Any
) -> None:
    called = ask(make(*names), url)

    assert url in called
    assert "reset to ''" in called


@pytest.mark.parametrize("url", ["/sync/", "/async/"])
@pytest.mark.parametrize("name", ["process_request", "process_response"])
def test_hook_that_is_replaced_late_runs(
    name: str, url: str, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make("hooks")
    ask(handler, url)
    counted = agents.Counted()
    hook = vars(middleware.hooks)[name]
    monkeypatch.setattr(middleware.hooks, name, counted.as_proxy(hook))

    ask(handler, url)

    assert counted.calls == 1


@pytest.mark.parametrize("url", ["/sync/", "/async/"])
@pytest.mark.parametrize("owner", [MiddlewareMixin, middleware.hooks])
def test_call_of_middleware_that_is_replaced_late_runs(
    owner: Any, url: str, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make("hooks", "sync_only", "hooks")
    before = ask(handler, url)
    counted = agents.Counted()
    call = counted.plainly(MiddlewareMixin.__call__)
    monkeypatch.setattr(owner, "__call__", call)

    assert ask(handler, url) == before
    assert counted.calls == 2


@pytest.mark.parametrize("url", ["/sync/", "/async/"])
@pytest.mark.parametrize("owner", [MiddlewareMixin, middleware.hooks])
def test_asynchronous_call_of_middleware_that_is_replaced_late_runs(
    owner: Any, url: str, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make("hooks", "hooks")
    before = ask(handler, url)
    counted = agents.Counted()
    call = counted.plainly(MiddlewareMixin.__acall__)
    monkeypatch.setattr(owner, "__acall__", call)

    assert ask(handler, url) == before
    assert counted.calls == 2


@pytest.mark.parametrize("url", ["/sync/", "/async/"])
@pytest.mark.parametrize("name", ["__call__", "__acall__"])
def test_code_put_into_the_call_of_middleware_runs(
    name: str, url: str, make: Any
) -> None:
    handler = make("hooks", "hooks")
    before = ask(handler, url)

    with agents.code_put_into(vars(MiddlewareMixin)[name]) as calls:
        assert ask(handler, url) == before
    ask(handler, url)

    assert len(calls) == 2


@pytest.mark.parametrize("url", ["/sync/", "/async/"])
def test_call_of_middleware_that_is_replaced_early_runs(
    url: str, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = agents.Counted()
    call = counted.plainly(MiddlewareMixin.__call__)
    monkeypatch.setattr(MiddlewareMixin, "__call__", call)
    handler = make("hooks", "hooks")

    ask(handler, url)

    assert counted.calls == 2
