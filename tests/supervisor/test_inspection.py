"""What is told of application calls that really run, in tasks and in threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from djserve.server.observation import CallRegister
from djserve.supervisor.inspection import MOST_CALLS, inspect_calls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djserve.asgi.types import Application, Message, Receive, Scope, Send

Report = dict[str, Any]


def describe(scope: Mapping[str, Any]) -> str:
    return f"view of {scope['path']}"


def http_scope(path: str = "/") -> dict[str, Any]:
    return {"type": "http", "asgi": {"version": "3.0"}, "method": "GET", "path": path}


async def receive() -> Message:
    return {"type": "http.request"}


async def send(message: Message) -> None:
    """Take the message."""


@asynccontextmanager
async def running(
    register: CallRegister, application: Application, *scopes: dict[str, Any]
) -> AsyncIterator[None]:
    """Run one call after the other, each until it waits; cancel them at the end."""
    registered = register.put_around(application)
    tasks = []
    for scope in scopes:
        tasks.append(asyncio.ensure_future(registered(scope, receive, send)))
        await asyncio.sleep(0)
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def inspect(application: Application, *scopes: dict[str, Any]) -> list[Report]:
    """Return what is told while the calls wait."""
    register = CallRegister()

    async def main() -> list[Report]:
        async with running(register, application, *scopes):
            return inspect_calls(register, describe)

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
    calls = [(http_scope(f"/{age}"), None, now - age) for age in (2, 9, 5)]
    reports = inspect_calls(calls, describe)

    assert [report["path"] for report in reports] == ["/9", "/5", "/2"]
    assert 9 <= reports[0]["age"] <= round(9 + time.perf_counter() - now, 3)


def test_only_the_oldest_of_very_many_calls_are_told() -> None:
    now = time.perf_counter()
    calls = [(http_scope(f"/{age}"), None, now - age) for age in range(MOST_CALLS + 5)]
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

    def inspect(self, register: CallRegister) -> list[Report]:
        assert self._is_there.wait(120)
        try:
            return inspect_calls(register, describe)
        finally:
            self._may_end.set()


def test_stack_of_a_view_in_a_thread_is_that_of_the_thread() -> None:
    application, register = InThread(), CallRegister()

    async def main() -> list[Report]:
        context: AbstractAsyncContextManager[None]
        context = running(register, application, http_scope())
        async with context:
            return application.inspect(register)

    (report,) = asyncio.run(main())

    assert report["where"] == "thread"
    assert any(line.endswith(" in view") for line in report["stack"])
    assert not any(line.endswith(" in main") for line in report["stack"])
