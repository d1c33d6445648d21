"""When a request's signals need no thread, and what is done instead."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.dummy import DummyCache
from django.core.handlers.base import reset_urlconf
from django.core.signals import request_finished, request_started
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.urls import get_urlconf, set_urlconf

from djserve.handlers import ASGIHandler
from djserve.handlers.lifecycle import (
    close,
    closes_plainly,
    has_open_transaction,
    prepare_thread,
    send,
    starts_plainly,
)


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


def test_cache_in_memory_does_not() -> None:
    caches["default"].set("a", 1)

    assert closes_plainly(*make())


def test_cache_with_a_connection_does() -> None:
    with override_settings(
        CACHES={"default": {"BACKEND": "connected_cache.ConnectedCache"}}
    ):
        assert caches["default"].get("a") is None

        assert not closes_plainly(*make())


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    """What two receivers hear, one of them of no sender but ``ASGIHandler``."""
    heard: list[Any] = []

    def listen(signal: object, sender: object, **named: object) -> None:
        heard.append(("all", sender, named))

    def listen_to_one(signal: object, sender: object, **named: object) -> None:
        heard.append(("one", sender, named))

    for signal in (request_started, request_finished):
        signal.connect(listen)
        signal.connect(listen_to_one, sender=ASGIHandler)
    yield heard
    for signal in (request_started, request_finished):
        signal.disconnect(listen)
        signal.disconnect(listen_to_one, sender=ASGIHandler)


@pytest.mark.django_db
def test_receivers_hear_of_their_senders_alone(heard: list[Any]) -> None:
    send(request_started, ASGIHandler, scope={"path": "/"})
    send(request_finished, int)

    named = {"scope": {"path": "/"}}
    assert heard == [
        ("all", ASGIHandler, named),
        ("one", ASGIHandler, named),
        ("all", int, {}),
    ]


@pytest.mark.django_db
def test_djangos_receivers_work_where_they_are_called_without_the_signal() -> None:
    set_urlconf("another")
    connection.queries_log.append({"sql": "left over", "time": "0"})
    send(request_finished, ASGIHandler)
    assert get_urlconf() is None
    assert connection.queries_log
    send(request_started, ASGIHandler)
    assert not connection.queries_log


@pytest.mark.django_db
def test_receiver_that_was_disconnected_is_not_called() -> None:
    # As Django's test client does with close_old_connections.
    set_urlconf("another")
    request_finished.disconnect(reset_urlconf)
    try:
        send(request_finished, ASGIHandler)
        assert get_urlconf() == "another"
    finally:
        request_finished.connect(reset_urlconf)
        set_urlconf(None)


@pytest.mark.django_db
def test_response_is_closed_as_django_does(heard: list[Any]) -> None:
    closed: list[str] = []

    def fail() -> None:
        closed.append("fails")
        raise OSError

    response: Any = HttpResponse()
    response._handler_class = ASGIHandler
    response._resource_closers += [fail, lambda: closed.append("goes on")]

    assert close(response)
    assert closed == ["fails", "goes on"]
    assert response.closed
    assert response._resource_closers == []
    assert [who for who, *_ in heard] == ["all", "one"]


class OwnResponse(HttpResponse):
    def close(self) -> None:
        self.reason_phrase = "closed in its own way"


def test_response_with_its_own_way_to_close_has_it(heard: list[Any]) -> None:
    patched: Any = HttpResponse()
    patched.close = lambda: setattr(patched, "reason_phrase", "closed in its own way")
    for response in (OwnResponse(), patched):
        assert not close(response)
        assert response.reason_phrase == "closed in its own way"
    assert heard == []


@pytest.mark.django_db(transaction=True)
def test_open_transaction_is_seen() -> None:
    from django.db import transaction

    assert not has_open_transaction()
    with transaction.atomic():
        assert has_open_transaction()


@pytest.mark.django_db
def test_thread_is_prepared_as_by_the_signal() -> None:
    connection.queries_log.append({"sql": "left over", "time": "0"})
    prepare_thread()

    assert not connection.queries_log
