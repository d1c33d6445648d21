"""The asynchronous chain: what is coalesced, and what is called as Django does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.utils.deprecation import MiddlewareMixin

from djserve.handlers import ASGIHandler
from djserve.handlers.layers import LayerRun, ViewRun

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
    assert len(inner.get_response._layers) == 2  # type: ignore[attr-defined]


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

    # Once for the synchronous lane, once for the asynchronous one.
    assert seen == [False, True]


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
