"""What is told of application calls that really run, in tasks and in threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from djserve.asgi.application import ApplicationCalls, RunningCall
from djserve.supervisor.inspection import MOST_CALLS, inspect_calls
from tests.support.logs import own_messages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djserve.asgi.types import Application, Message, Receive, Scope, Send

Report = dict[str, Any]


def describe(scope: Mapping[str, Any]) -> str:
    return f"view of {scope['path']}"


def http_scope(path: str = "/") -> dict[str, Any]:
    return {"type": "http", "asgi": {"version": "3.0"}, "method": "GET", "path": path}


class Exchange:
    """One request's part in its call."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.scope: Scope = scope

    async def receive(self) -> Message:
        return {"type": "http.request"}

    async def send(self, message: Message) -> None: ...
    def application_finished(self) -> None: ...
    def application_failed(self, error: BaseException) -> None: ...


@asynccontextmanager
async def running(
    application: Application, *scopes: dict[str, Any]
) -> AsyncIterator[ApplicationCalls]:
    """Run one call after the other, each until it waits; cancel them at the end."""
    calls = ApplicationCalls(application, asyncio.get_running_loop(), 0.0)
    calls.note_beginnings()
    for scope in scopes:
        calls.start(Exchange(scope))
        await asyncio.sleep(0)
    yield calls
    await calls.cancel_all(120)


def inspect(application: Application, *scopes: dict[str, Any]) -> list[Report]:
    """Return what is told while the calls wait."""

    async def main() -> list[Report]:
        async with running(application, *scopes) as calls:
            return inspect_calls(calls, describe)

    return asyncio.run(main())


async def wait_for_ever(scope: Scope, receive: Receive, send: Send) -> None:
    await innermost()


async def innermost() -> None:
    await asyncio.Event().wait()


def test_stack_of_a_waiting_call_leads_to_what_it_waits_for() -> None:
    (report,) = inspect(wait_for_ever, http_scope())
    functions = [line.rpartition(" in ")[2] for line in report["stack"]]

    assert report["where"] == "loop"
    assert functions[-3:] == ["wait_for_ever", "innermost", "wait"]


def test_call_is_told_with_its_view_and_method() -> None:
    (report,) = inspect(wait_for_ever, http_scope("/a"))

    assert (report["method"], report["path"]) == ("GET", "/a")
    assert report["view"] == "view of /a"


def test_websocket_is_told_as_one() -> None:
    scope = {"type": "websocket", "asgi": {"version": "3.0"}, "path": "/chat"}
    (report,) = inspect(wait_for_ever, scope)

    assert report["method"] == "WebSocket"


def test_oldest_call_comes_first() -> None:
    now = time.perf_counter()
    calls = [RunningCall(http_scope(f"/{age}"), None, now - age) for age in (2, 9, 5)]
    reports = inspect_calls(calls, describe)

    assert [report["path"] for report in reports] == ["/9", "/5", "/2"]
    assert 9 <= reports[0]["age"] <= round(9 + time.perf_counter() - now, 3)


def test_only_the_oldest_of_very_many_calls_are_told() -> None:
    now = time.perf_counter()
    calls = [
        RunningCall(http_scope(f"/{age}"), None, now - age)
        for age in range(MOST_CALLS + 5)
    ]
    reports = inspect_calls(calls, describe)

    assert len(reports) == MOST_CALLS
    assert reports[0]["path"] == f"/{MOST_CALLS + 4}"


class Request:
    """What a framework makes of a scope for its views."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope


class InThread:
    """An application whose synchronous part waits in a thread until it is let go."""

    def __init__(self) -> None:
        self._is_there = threading.Event()
        self._may_end = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.to_thread(self.view, Request(scope))

    def view(self, request: Request) -> None:
        self._is_there.set()
        assert self._may_end.wait(120)

    def inspect(self, calls: ApplicationCalls) -> list[Report]:
        assert self._is_there.wait(120)
        try:
            return inspect_calls(calls, describe)
        finally:
            self._may_end.set()


def test_stack_of_a_view_in_a_thread_is_that_of_the_thread() -> None:
    application = InThread()

    async def main() -> list[Report]:
        async with running(application, http_scope()) as calls:
            return application.inspect(calls)

    (report,) = asyncio.run(main())

    assert report["where"] == "thread"
    assert any(line.endswith(" in view") for line in report["stack"])
    assert not any(line.endswith(" in main") for line in report["stack"])


class Touchy:
    """An object of the project that takes note of every look at it."""

    touched: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        Touchy.touched.append(name)
        raise RuntimeError("a query, in the wrong thread")

    __repr__ = __str__ = __eq__ = __hash__ = __bool__ = __iter__ = __len__ = (
        lambda self, *_: self.any
    )

    def __await__(self) -> Any:
        return asyncio.Event().wait().__await__()


class LooksAtNothing(InThread):
    def view(self, request: Request) -> None:
        user = lazy = Touchy()
        both = [user, {"user": lazy}, (user,)]
        super().view(request)
        del both


def test_objects_of_the_project_in_a_thread_are_not_touched() -> None:
    application = LooksAtNothing()

    async def main() -> list[Report]:
        async with running(application, http_scope()) as calls:
            return application.inspect(calls)

    (report,) = asyncio.run(main())

    assert report["where"] == "thread"
    assert Touchy.touched == []


def test_objects_of_the_project_that_a_task_waits_for_are_not_touched() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await Touchy()

    (report,) = inspect(application, http_scope())

    assert report["stack"][-1].endswith(" in application")
    assert Touchy.touched == []


def test_one_call_that_cannot_be_described_hides_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail_for_one(scope: Mapping[str, Any]) -> str:
        if scope["path"] is paths[1]:
            raise RuntimeError("no view")
        return "view"

    paths: list[Any] = ["/good", "/bad", Touchy()]
    calls = [RunningCall(http_scope(path), None, 0.0) for path in paths]
    reports = inspect_calls(calls, fail_for_one)

    assert [report["path"] for report in reports] == ["/good", "/bad", "?"]
    assert [report["view"] for report in reports] == ["view", "", "view"]
    assert Touchy.touched == []
    assert own_messages(caplog) == ["A call cannot be described"]
