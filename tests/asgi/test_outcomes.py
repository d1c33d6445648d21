"""Which exceptions say that the client has gone, or that a WebSocket has no route."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.handlers import asgi
from django.urls import path

from djserve.asgi.outcomes import (
    ends_the_loop,
    is_disconnect,
    is_unrouted,
    log_unrouted,
    refusal_status,
)
from djserve.asgi.types import Application, Receive, Scope, Send
from djserve.errors import ApplicationError, ClientDisconnected, ProtocolError
from djserve.handlers import ASGIHandler
from djserve.system import is_real_interrupt
from tests.support.logs import own_records


class Gone(Exception):
    """A framework's own word for it."""


def send() -> None:
    raise ClientDisconnected


def plain() -> None:
    send()


def named() -> None:
    try:
        send()
    except OSError as error:
        raise ValueError("gone") from error


def converted() -> None:
    try:
        send()
    except OSError:
        raise Gone  # noqa: B904 - as Starlette does


def converted_twice() -> None:
    try:
        converted()
    except Gone:
        raise RuntimeError("No response returned.")  # noqa: B904


@contextmanager
def converting() -> Iterator[None]:
    try:
        yield
    except OSError:
        raise Gone  # noqa: B904 - as Starlette does


def converted_by_a_context() -> None:
    with converting():
        send()


def grouped() -> None:
    try:
        converted()
    except Gone as error:
        raise ExceptionGroup("unhandled", [error, ClientDisconnected()])  # noqa: B904


def failing() -> None:
    raise ValueError("the database is away")


def fails_in_clean_up() -> None:
    try:
        send()
    finally:
        failing()


def mistaken() -> None:
    try:
        send()
    except OSError:
        [][0]


def hidden() -> None:
    try:
        send()
    except OSError:
        pass
    failing()


def grouped_with_a_fault() -> None:
    raise ExceptionGroup("unhandled", [ClientDisconnected(), ValueError()])


def caught(action: Callable[[], None]) -> BaseException:
    try:
        action()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    "action",
    [plain, named, converted, converted_twice, converted_by_a_context, grouped],
)
def test_leaving_of_the_client_is_found(action: Callable[[], None]) -> None:
    assert is_disconnect(caught(action))


@pytest.mark.parametrize(
    "action", [failing, fails_in_clean_up, mistaken, hidden, grouped_with_a_fault]
)
def test_fault_beside_a_disconnect_is_a_fault(action: Callable[[], None]) -> None:
    assert not is_disconnect(caught(action))


def test_circle_of_causes_ends() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first

    assert not is_disconnect(first)


def test_group_that_is_the_cause_of_what_it_holds_ends() -> None:
    inner = ValueError()
    group = ExceptionGroup("group", [inner])
    inner.__cause__ = group

    assert not is_disconnect(group)


def test_groups_that_share_what_they_hold_are_looked_at_once() -> None:
    error: Exception = ClientDisconnected()
    for _ in range(100):
        error = ExceptionGroup("group", [error, error])

    assert is_disconnect(error)


def test_exception_that_counts_as_false_has_its_cause() -> None:
    class Empty(Exception):
        def __len__(self) -> int:
            return 0

    error, cause = ValueError(), Empty()
    error.__cause__, cause.__cause__ = cause, ClientDisconnected()

    assert is_disconnect(error)


def test_coroutine_that_is_closed_from_outside_is_not_the_applications() -> None:
    async def run() -> tuple[bool, bool, bool]:
        own = asyncio.current_task()
        other = asyncio.ensure_future(asyncio.sleep(0))
        error = GeneratorExit()
        verdicts = [ends_the_loop(error, task) for task in (own, None, other)]
        await other
        return verdicts[0], verdicts[1], verdicts[2]

    assert asyncio.run(run()) == (False, False, True)


def test_interrupt_is_real_in_the_main_thread_without_a_handler() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    elsewhere: list[bool] = []
    try:
        assert is_real_interrupt()
        assert ends_the_loop(KeyboardInterrupt(), None)
        thread = threading.Thread(target=lambda: elsewhere.append(is_real_interrupt()))
        thread.start()
        thread.join()
        signal.signal(signal.SIGINT, lambda *args: None)
        assert not is_real_interrupt()
    finally:
        signal.signal(signal.SIGINT, before)

    assert elsewhere == [False]


async def consumer(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("No route found for path 'of my own'.")


async def refused(scope: Scope, receive: Receive, send: Send) -> None:
    raise ProtocolError("No route", 404)


OWN: Any = consumer
INNER: Any = URLRouter([path("a/", cast("Any", refused))])
ROUTER = URLRouter([path("own/", OWN), path("inner/", INNER)])


def error_of(application: Application, url: str, **changes: Any) -> BaseException:
    async def unused(*args: Any) -> Any:
        raise NotImplementedError

    scope = {"type": "websocket", "path": url, "root_path": "", "headers": []}
    try:
        asyncio.run(application(scope | changes, unused, unused))  # type: ignore[arg-type]
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    "application",
    [
        ROUTER,
        ProtocolTypeRouter({"websocket": ROUTER}),
        ProtocolTypeRouter({"websocket": AuthMiddlewareStack(ROUTER)}),
    ],
    ids=["alone", "by-type", "authenticated"],
)
@pytest.mark.parametrize("url", ["/missing/", "/inner/missing/"])
def test_path_without_a_route_is_recognised(application: Any, url: str) -> None:
    error = error_of(application, url)

    assert is_unrouted({"type": "websocket"}, error)


def wrapped(application: Any) -> Application:
    async def wrapper(scope: Scope, receive: Receive, send: Send) -> None:
        await application(scope, receive, send)

    return wrapper


@pytest.mark.parametrize(
    "application",
    [
        ASGIHandler(),
        asgi.ASGIHandler(),
        wrapped(ASGIHandler()),
        wrapped(asgi.ASGIHandler()),
        ProtocolTypeRouter({"http": ASGIHandler()}),
        wrapped(ProtocolTypeRouter({})),
    ],
    ids=["own", "django", "own-wrapped", "django-wrapped", "http-only", "empty"],
)
def test_application_for_http_alone_is_recognised(application: Any) -> None:
    error = error_of(application, "/")

    assert isinstance(error, ValueError)
    assert is_unrouted({"type": "websocket"}, error)


def test_path_outside_the_mount_point_is_recognised() -> None:
    error = error_of(ROUTER, "/elsewhere/", root_path="/mount")

    assert is_unrouted({"type": "websocket"}, error)


def test_same_words_of_a_consumer_are_its_own_fault() -> None:
    error = error_of(ROUTER, "/own/")

    assert str(error).startswith("No route found for path ")
    assert not is_unrouted({"type": "websocket"}, error)


def test_other_faults_of_the_router_are_faults() -> None:
    error = error_of(ROUTER, None)  # type: ignore[arg-type]

    assert isinstance(error, ValueError)
    assert not is_unrouted({"type": "websocket"}, error)


def test_http_has_answers_of_its_own() -> None:
    assert not is_unrouted({"type": "http"}, error_of(ROUTER, "/missing/"))


def test_exception_that_was_never_raised_comes_from_nowhere() -> None:
    error = ValueError("No route found for path 'a'.")

    assert not is_unrouted({"type": "websocket"}, error)
    assert not is_unrouted({"type": "websocket"}, KeyError("a"))


def test_log_has_one_line_that_nobody_can_forge(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scope = {"path": "/a\nb", "client": ("192.0.2.1", 5000)}
    with caplog.at_level(logging.WARNING, "djserve.error"):
        error = log_unrouted(scope)

    [record] = own_records(caplog)
    assert record.message == "No route for a WebSocket to /a\\x0ab from 192.0.2.1:5000"
    assert record.exc_info is None
    assert error.status == 404


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ProtocolError("No route", 404), 404),
        (asyncio.CancelledError(), 503),
        (ApplicationError("no decision"), 500),
        (LookupError(), 500),
    ],
)
def test_refusal_says_whose_fault_it_was(error: BaseException, status: int) -> None:
    assert refusal_status(error) == status
