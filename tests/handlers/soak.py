"""Requests that could wait for each other forever, for as long as one likes.

    python tests/handlers/soak.py [--seconds 60] [scenario ...]

Each scenario keeps few threads busy with requests that block them; it fails where a
request does not end, or where a view on the loop has to wait until they do.
``test_handler.py`` runs a few rounds of each.
"""

from __future__ import annotations

import argparse
import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import django
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

THREADS = 3
BOUNDS: dict[str, Any] = {"ceiling": 20, "share": 0.8}
"""What lets more threads wait, and bounds those of each view."""
PINGS = 5
"""How often a view on the loop is asked for while the threads are blocked."""
PATIENCE = 120.0
"""Seconds after which a round of requests is taken to hang."""


class Gate:
    """What a round's requests wait for, and how many of them do."""

    def __init__(self) -> None:
        self.for_loop = asyncio.Event()
        self.for_threads = threading.Event()
        self._standing = threading.Semaphore(0)

    def arrive(self) -> None:
        """Called by each request, in a thread or on the loop, before it waits."""
        self._standing.release()

    async def wait_for(self, count: int) -> None:
        """Return once so many requests wait."""
        for _ in range(count):
            while not self._standing.acquire(blocking=False):  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def pass_on_loop(self) -> None:
        """Wait until the gate is opened."""
        self.arrive()
        await self.for_loop.wait()


gate: Gate


def blocks(request: HttpRequest) -> HttpResponse:
    gate.arrive()
    assert gate.for_threads.wait(PATIENCE)
    return HttpResponse("blocked")


async def holds(request: HttpRequest) -> HttpResponse:
    await sync_to_async(time.sleep)(0)
    await gate.pass_on_loop()
    await sync_to_async(time.sleep)(0)
    return HttpResponse("held a thread")


def waits_by_loop(request: HttpRequest) -> HttpResponse:
    async_to_sync(gate.pass_on_loop)()
    return HttpResponse("waited")


def opens_by_loop(request: HttpRequest) -> HttpResponse:
    async def open_gate() -> None:
        gate.for_loop.set()

    async_to_sync(open_gate)()
    return HttpResponse("opened")


async def ping(request: HttpRequest) -> HttpResponse:
    return HttpResponse("pong")


urlpatterns = [
    path("blocks/", blocks),
    path("holds/", holds),
    path("waits/", waits_by_loop),
    path("opens/", opens_by_loop),
    path("ping/", ping),
]


Ping = Callable[[], Coroutine[Any, Any, None]]
Round = Callable[[Any, Ping], Coroutine[Any, Any, None]]


async def request(application: Any, url: str) -> None:
    """Make one request and check that it is answered."""
    messages: list[dict[str, Any]] = []
    content = [{"type": "http.request", "body": b""}]
    never = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if content:
            return content.pop()
        await never.wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": url,
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    await application(scope, receive, send)
    assert messages[0]["status"] == 200, messages


async def more_blocked_views_than_threads(application: Any, ping: Ping) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(8 * THREADS):
            group.create_task(request(application, "/blocks/"))
        await gate.wait_for(THREADS)
        await ping()
        gate.for_threads.set()


async def async_views_that_hold_threads(application: Any, ping: Ping) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(8 * THREADS):
            group.create_task(request(application, "/holds/"))
        await gate.wait_for(8 * THREADS)
        await ping()
        # Must find a thread although many are held.
        group.create_task(request(application, "/opens/"))


async def views_that_wait_for_each_other(application: Any, ping: Ping) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(4 * THREADS):
            group.create_task(request(application, "/waits/"))
        await gate.wait_for(THREADS)
        await ping()
        # Stands in the queue behind those that wait for it.
        group.create_task(request(application, "/opens/"))


SCENARIOS: dict[str, Round] = {
    "blocked": more_blocked_views_than_threads,
    "held": async_views_that_hold_threads,
    "waiting": views_that_wait_for_each_other,
}


async def soak(
    application: Any, scenario: Round, *, rounds: int = 1, seconds: float = 0
) -> dict[str, float]:
    """Repeat a scenario, and measure how long a view on the loop takes meanwhile.

    Goes on for so many rounds, and until the time is over.
    """
    global gate
    slowest, pings, done = 0.0, 0, 0

    async def ping() -> None:
        nonlocal slowest, pings
        for _ in range(PINGS):
            begin = time.perf_counter()
            await request(application, "/ping/")
            slowest = max(slowest, time.perf_counter() - begin)
            pings += 1

    end = time.monotonic() + seconds
    while done < rounds or time.monotonic() < end:
        gate = Gate()
        async with asyncio.timeout(PATIENCE):
            await scenario(application, ping)
        done += 1
    return {"rounds": done, "pings": pings, "slowest ping": slowest}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []])
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)
    django.setup()
    from djserve.handlers import ASGIHandler
    from djserve.handlers.runtime import make_pool

    for name in options.scenarios or SCENARIOS:
        for bounds in ({}, BOUNDS):
            pool = make_pool(THREADS, **bounds)
            application = ASGIHandler(pool)
            result = asyncio.run(
                soak(application, SCENARIOS[name], seconds=options.seconds)
            )
            print(f"{name}: {result} {pool.stats()}")


if __name__ == "__main__":
    main()
