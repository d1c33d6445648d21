"""When a request's signals need no thread, and what is done instead."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import caches, close_caches
from django.core.cache.backends.dummy import DummyCache
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connection, reset_queries
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings

from djserve.handlers.signals import (
    closes_plainly,
    prepare_thread,
    starts_plainly,
)
from tests.handlers import agents


@pytest.fixture(autouse=True)
def _own_caches() -> Iterator[None]:
    locmem = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    with override_settings(CACHES={"default": locmem}):
        yield


class ConnectedCache(DummyCache):
    """A cache with something to close, as Redis' has."""

    def close(self, **kwargs: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def _findable_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("connected_cache")
    module.__dict__["ConnectedCache"] = ConnectedCache
    monkeypatch.setitem(sys.modules, module.__name__, module)


def receiver(**kwargs: Any) -> None:
    pass


async def async_receiver(**kwargs: Any) -> None:
    pass


@pytest.fixture(params=[receiver, async_receiver])
def own_receiver(request: pytest.FixtureRequest) -> Iterator[None]:
    for signal in (request_started, request_finished):
        signal.connect(request.param)
    yield
    for signal in (request_started, request_finished):
        signal.disconnect(request.param)


def make() -> tuple[HttpRequest, Any]:
    request = RequestFactory().get("/")
    response: Any = HttpResponse()
    response._resource_closers.append(request.close)
    return request, response


def test_signals_of_django_alone_need_no_thread() -> None:
    assert starts_plainly()
    assert closes_plainly(*make())


@pytest.mark.usefixtures("own_receiver")
def test_receivers_of_the_project_do() -> None:
    assert not starts_plainly()
    assert not closes_plainly(*make())


@pytest.mark.parametrize("name", ["send", "asend", "_live_receivers"])
@pytest.mark.parametrize("form", ["plainly", "as_decorator", "as_proxy"])
def test_method_of_signals_that_was_replaced_does(
    name: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert starts_plainly()
    replaced = getattr(agents.Counted(), form)(getattr(Signal, name))
    monkeypatch.setattr(Signal, name, replaced)

    assert not starts_plainly()
    assert not closes_plainly(*make())


@pytest.mark.parametrize("name", ["asend", "_live_receivers"])
def test_method_of_signals_whose_code_was_replaced_does(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert starts_plainly()
    function = getattr(Signal, name)
    monkeypatch.setattr(function, "__code__", agents.rewritten(function.__code__))

    assert not starts_plainly()
    assert not closes_plainly(*make())


def test_something_else_to_close_does() -> None:
    request, response = make()
    response._resource_closers.append(receiver)

    assert not closes_plainly(request, response)


def test_uploaded_files_do() -> None:
    request, response = make()
    request._files = {"file": object()}  # type: ignore[attr-defined]

    assert not closes_plainly(request, response)


def test_response_with_a_close_of_its_own_does() -> None:
    class Response(HttpResponse):
        def close(self) -> None:
            super().close()

    request, _ = make()
    response: Any = Response()
    response._resource_closers.append(request.close)

    assert not closes_plainly(request, response)


def test_close_that_was_put_on_the_response_does() -> None:
    request, response = make()
    response.close = receiver

    assert not closes_plainly(request, response)


def test_cache_in_memory_does_not() -> None:
    caches["default"].set("a", 1)

    assert closes_plainly(*make())


def test_cache_with_a_connection_does() -> None:
    with override_settings(
        CACHES={"default": {"BACKEND": "connected_cache.ConnectedCache"}}
    ):
        assert caches["default"].get("a") is None

        assert not closes_plainly(*make())


@pytest.mark.django_db
def test_thread_is_prepared_as_by_the_signal() -> None:
    connection.queries_log.append({"sql": "left over", "time": "0"})
    prepare_thread()

    assert not connection.queries_log


def test_receiver_that_comes_and_goes_later_is_noticed() -> None:
    assert starts_plainly()

    request_started.connect(receiver)
    try:
        assert not starts_plainly()
    finally:
        request_started.disconnect(receiver)

    assert starts_plainly()


@pytest.mark.parametrize(
    ("signal", "disconnected", "is_plain"),
    [
        (request_started, reset_queries, lambda: starts_plainly()),
        (request_started, close_old_connections, lambda: starts_plainly()),
        (request_finished, close_old_connections, lambda: closes_plainly(*make())),
        (request_finished, close_caches, lambda: closes_plainly(*make())),
    ],
)
def test_what_the_project_has_disconnected_is_not_done_in_its_place(
    signal: Signal, disconnected: Any, is_plain: Callable[[], bool]
) -> None:
    signal.disconnect(disconnected)
    try:
        assert not is_plain()
    finally:
        signal.connect(disconnected)

    assert is_plain()
