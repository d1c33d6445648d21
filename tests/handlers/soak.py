"""Requests that could wait for each other forever, for as long as one likes.

    python tests/handlers/soak.py [--seconds 60] [scenario ...]

Each scenario keeps few threads busy with requests that block them; it fails where a
request does not end, or where a view on the loop has to wait meanwhile.
``test_handler.py`` runs each for a moment.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import django
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

THREADS = 3
PATIENCE = 10.0
"""Seconds that a round of requests may take."""

gate: asyncio.Event


def blocks(request: HttpRequest) -> HttpResponse:
    time.sleep(0.02)
    return HttpResponse("blocked")


async def holds(request: HttpRequest) -> HttpResponse:
    await sync_to_async(time.sleep)(0)
    await gate.wait()
    await sync_to_async(time.sleep)(0)
    return HttpResponse("held a thread")


def waits_by_loop(request: HttpRequest) -> HttpResponse:
    async_to_sync(gate.wait)()
    return HttpResponse("waited")


def opens_by_loop(request: HttpRequest) -> HttpResponse:
    async def open_gate() -> None:
        gate.set()

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


async def more_blocked_views_than_threads(application: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(8 * THREADS):
            group.create_task(request(application, "/blocks/"))


async def async_views_that_hold_threads(application: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(8 * THREADS):
            group.create_task(request(application, "/holds/"))
        await asyncio.sleep(0.02)
        # Must find a thread although many are held.
        group.create_task(request(application, "/opens/"))


async def views_that_wait_for_each_other(application: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(4 * THREADS):
            group.create_task(request(application, "/waits/"))
        await asyncio.sleep(0.02)
        # Stands in the queue behind those that wait for it.
        group.create_task(request(application, "/opens/"))


Round = Callable[[Any], Coroutine[Any, Any, None]]

SCENARIOS: dict[str, Round] = {
    "blocked": more_blocked_views_than_threads,
    "held": async_views_that_hold_threads,
    "waiting": views_that_wait_for_each_other,
}


async def soak(application: Any, scenario: Round, seconds: float) -> dict[str, float]:
    """Repeat a scenario, and measure how long a view on the loop takes meanwhile."""
    global gate
    slowest, pings, rounds = 0.0, 0, 0
    stopped = asyncio.Event()

    async def keep_pinging() -> None:
        nonlocal slowest, pings
        while not stopped.is_set():
            begin = time.perf_counter()
            await request(application, "/ping/")
            slowest = max(slowest, time.perf_counter() - begin)
            pings += 1
            await asyncio.sleep(0.005)

    pinging = asyncio.create_task(keep_pinging())
    end = time.monotonic() + seconds
    while rounds == 0 or time.monotonic() < end:
        gate = asyncio.Event()
        async with asyncio.timeout(PATIENCE):
            await scenario(application)
        rounds += 1
    stopped.set()
    await pinging
    return {"rounds": rounds, "pings": pings, "slowest ping": slowest}


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
        pool = make_pool(THREADS)
        application = ASGIHandler(pool)
        result = asyncio.run(soak(application, SCENARIOS[name], options.seconds))
        print(f"{name}: {result} {pool.stats()}")


if __name__ == "__main__":
    main()
