"""Requests of synchronous views: one hop, one thread, and clients that leave."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.signals import request_finished
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    StreamingHttpResponse,
)
from django.test import override_settings
from django.urls import path

from djserve.handlers import ASGIHandler
from djserve.handlers.responses import PATHSEND
from djserve.handlers.runtime import make_pool
from djserve.handlers.sync_lane import outcome
from djserve.handlers.threads.leases import Lease
from djserve.handlers.threads.pool import ThreadPool
from tests.handlers.conversation import Conversation
from tests.support.waiting import settle, wait_until

EVENTS: list[str] = []
BEGUN = threading.Event()
GATE = threading.Event()


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


def waits(request: HttpRequest) -> HttpResponse:
    BEGUN.set()
    GATE.wait(60)
    EVENTS.append("view ended")
    return HttpResponse("dropped")


async def async_view(request: HttpRequest) -> HttpResponse:
    BEGUN.set()
    try:
        await asyncio.sleep(300)
    except asyncio.CancelledError:
        EVENTS.append("view cancelled")
        raise
    return HttpResponse()


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        try:
            while True:
                EVENTS.append(threading.current_thread().name)
                yield b"tick"
                time.sleep(0.001)
        finally:
            EVENTS.append("stream closed")

    return StreamingHttpResponse(parts())


async def asked_from_threads() -> list[str]:
    """Call synchronous code, which calls asynchronous code that does so again."""

    def inner() -> str:
        return async_to_sync(asked)("inner")

    async def asked(name: str) -> str:
        return await sync_to_async(str)(name)

    calls = (asked("first"), sync_to_async(inner)(), asked("last"))
    return list(await asyncio.gather(*calls))


def run_by_hand(coroutine: Any) -> Any:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


def runs_a_loop(request: HttpRequest) -> StreamingHttpResponse:
    run = run_by_hand if "by-hand" in request.GET else asyncio.run
    made = run(asked_from_threads())

    def parts() -> Iterator[str]:
        yield ",".join(made)
        yield "," + ",".join(run(asked_from_threads()))

    return StreamingHttpResponse(parts())


def makes_a_loop_if_there_is_none(request: HttpRequest) -> HttpResponse:
    try:
        loop = asyncio.get_event_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
    if "keep" in request.GET:
        return HttpResponse(str(id(loop)))
    try:
        return HttpResponse(loop.run_until_complete(asyncio.sleep(0, b"done")))
    finally:
        loop.close()


async def makes_a_loop_by_a_hop(request: HttpRequest) -> HttpResponse:
    response: HttpResponse = await sync_to_async(makes_a_loop_if_there_is_none)(request)
    return response


def file(request: HttpRequest) -> FileResponse:
    return FileResponse(Path(__file__).open("rb"))


def closes_slowly(request: HttpRequest) -> HttpResponse:
    response = HttpResponse("at once")
    closers: list[Any] = response._resource_closers  # type: ignore[attr-defined]
    closers.append(lambda: EVENTS.append(f"answered first: {GATE.wait(60)}"))
    return response


def swaps_urls(get_response: Any) -> Any:
    def middleware(request: HttpRequest) -> Any:
        request.urlconf = other_urls  # type: ignore[assignment]
        return get_response(request)

    return middleware


class other_urls:
    urlpatterns = [path("", async_view)]


urlpatterns = [
    path("", hello),
    path("waits/", waits),
    path("stream/", stream),
    path("runs-a-loop/", runs_a_loop),
    path("makes-a-loop/", makes_a_loop_if_there_is_none),
    path("makes-a-loop-by-a-hop/", makes_a_loop_by_a_hop),
    path("file/", file),
    path("closes-slowly/", closes_slowly),
]


@pytest.fixture(autouse=True)
def _project() -> Iterator[None]:
    EVENTS.clear()
    BEGUN.clear()
    GATE.clear()

    def on_finish(**kwargs: Any) -> None:
        EVENTS.append("finished")

    request_finished.connect(on_finish)
    with override_settings(ROOT_URLCONF=sys.modules[__name__], MIDDLEWARE=[]):
        yield
    request_finished.disconnect(on_finish)


async def leave_when_begun(client: Conversation) -> None:
    await asyncio.to_thread(BEGUN.wait, 60)
    client.leave()
    await settle()
    GATE.set()


async def with_impatient_client(client: Conversation, application: Any) -> None:
    await asyncio.gather(client.request(application), leave_when_begun(client))


def test_request_is_one_job_of_one_thread(pool: ThreadPool) -> None:
    jobs: list[Any] = []
    finish = pool.finish

    def count(*args: Any) -> Lease | None:
        jobs.append(args)
        return finish(*args)

    vars(pool)["finish"] = count
    client = Conversation("/")
    client.run(ASGIHandler(pool))

    assert client.content == b"hello"
    assert len(jobs) == 1


@pytest.mark.parametrize("query", [b"", b"by-hand"])
def test_view_that_runs_a_loop_does_not_wait_for_itself(
    query: bytes, pool: ThreadPool
) -> None:
    client = Conversation("/runs-a-loop/", query_string=query)
    client.run(ASGIHandler(pool))

    assert client.content == b"first,inner,last,first,inner,last"


@pytest.mark.parametrize("url", ["/makes-a-loop/", "/makes-a-loop-by-a-hop/"])
def test_loop_that_a_view_has_closed_is_not_the_next_views(
    url: str, pool: ThreadPool
) -> None:
    for _ in range(4):
        client = Conversation(url)
        client.run(ASGIHandler(pool))

        assert (client.status, client.content) == (200, b"done")


def test_loop_that_a_view_leaves_open_is_the_next_views() -> None:
    pool = make_pool(1)
    seen = []
    for _ in range(2):
        client = Conversation("/makes-a-loop/", query_string=b"keep")
        client.run(ASGIHandler(pool))
        seen.append(client.content)
    client = Conversation("/makes-a-loop/")
    client.run(ASGIHandler(pool))

    assert seen[0] == seen[1]
    assert client.content == b"done"
    assert pool.close(60)


def test_view_of_a_client_that_left_runs_on_and_is_not_answered(
    pool: ThreadPool,
) -> None:
    client = Conversation("/waits/")
    asyncio.run(with_impatient_client(client, ASGIHandler(pool)))

    assert EVENTS == ["view ended", "finished"]
    assert client.sent == []


def test_response_does_not_wait_for_what_is_closed(pool: ThreadPool) -> None:
    client = Conversation("/closes-slowly/")
    client.on_send = lambda message: GATE.set() if "body" in message else None
    client.run(ASGIHandler(pool))

    assert client.content == b"at once"
    assert EVENTS == ["answered first: True", "finished"]


def test_async_view_behind_changed_urls_is_cancelled(pool: ThreadPool) -> None:
    with override_settings(MIDDLEWARE=[f"{__name__}.swaps_urls"]):
        client = Conversation("/")
        asyncio.run(with_impatient_client(client, ASGIHandler(pool)))

    assert EVENTS == ["view cancelled", "finished"]
    assert client.sent == []


def test_stream_is_drawn_and_closed_in_the_thread_of_the_view(pool: ThreadPool) -> None:
    client = Conversation("/stream/")
    client.on_send = lambda message: client.leave() if len(client.sent) > 5 else None
    client.run(ASGIHandler(pool))

    assert EVENTS[-2:] == ["stream closed", "finished"]
    assert len(set(EVENTS[:-2])) == 1
    assert pool.stats().parked == 0


def test_file_is_left_to_a_server_that_takes_paths(pool: ThreadPool) -> None:
    client = Conversation("/file/", extensions={PATHSEND: {}})
    client.run(ASGIHandler(pool))

    assert client.sent[1:] == [{"type": PATHSEND, "path": __file__}]
    assert EVENTS == ["finished"]


def test_file_goes_through_python_otherwise(pool: ThreadPool) -> None:
    client = Conversation("/file/")
    client.run(ASGIHandler(pool))

    assert client.content == Path(__file__).read_bytes()


def test_request_that_the_server_cancels_is_finished_by_its_thread(
    pool: ThreadPool,
) -> None:
    async def main() -> None:
        request = asyncio.create_task(
            Conversation("/waits/").request(ASGIHandler(pool))
        )
        await asyncio.to_thread(BEGUN.wait, 60)
        request.cancel()
        await settle()
        GATE.set()
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(main())
    assert EVENTS == ["view ended", "finished"]


def test_request_that_is_cancelled_in_the_queue_never_runs(pool: ThreadPool) -> None:
    async def main() -> None:
        application = ASGIHandler(pool)
        busy = [
            asyncio.create_task(Conversation("/waits/").request(application))
            for _ in range(2)
        ]
        waiting = asyncio.create_task(Conversation("/waits/").request(application))
        await asyncio.to_thread(BEGUN.wait, 60)
        await wait_until(lambda: pool.queued > 0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        GATE.set()
        await asyncio.gather(*busy)

    asyncio.run(main())
    assert EVENTS.count("view ended") == 2


CANCELLED, FAULT = asyncio.CancelledError(), ValueError("the view failed")


@pytest.mark.parametrize(
    ("error", "has_client_gone", "left"),
    [
        (None, False, None),
        (None, True, None),
        (FAULT, False, FAULT),
        (FAULT, True, FAULT),
        # The server has asked for it, and is told.
        (CANCELLED, False, CANCELLED),
        # Its coroutine was cancelled because of the client.
        (CANCELLED, True, None),
    ],
)
def test_outcome_of_a_call(
    error: BaseException | None, has_client_gone: bool, left: BaseException | None
) -> None:
    assert outcome(error, has_client_gone=has_client_gone) is left
