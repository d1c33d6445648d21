"""Requests of asynchronous views: on the loop, with a thread only where one is used."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.signals import request_finished, request_started
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path

from djserve.handlers import ASGIHandler
from djserve.handlers.responses import PATHSEND
from djserve.handlers.threads.pool import ThreadPool
from tests.handlers.configuration import DEFAULT_MIDDLEWARE
from tests.handlers.conversation import Conversation
from tests.support.waiting import wait_until

EVENTS: list[Any] = []


async def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


async def uses_a_thread(request: HttpRequest) -> HttpResponse:
    idents = {await sync_to_async(threading.get_ident)() for _ in range(3)}
    return HttpResponse(str(len(idents)))


async def waits(request: HttpRequest) -> HttpResponse:
    try:
        await sync_to_async(EVENTS.append)("view begins")
        await asyncio.sleep(300)
    finally:
        EVENTS.append("view cancelled")
    return HttpResponse()


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    await sync_to_async(int)()

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"tick"
            await asyncio.sleep(0)

    return StreamingHttpResponse(parts())


async def file(request: HttpRequest) -> FileResponse:
    return FileResponse(Path(__file__).open("rb"))  # noqa: ASYNC230


async def outlived(request: HttpRequest) -> HttpResponse:
    answered = asyncio.Event()

    async def later() -> None:
        await answered.wait()
        EVENTS.append(await sync_to_async(lambda: threading.current_thread().name)())

    TASKS[asyncio.create_task(later())] = answered
    return HttpResponse()


TASKS: dict[asyncio.Task[None], asyncio.Event] = {}

urlpatterns = [
    path("", hello),
    path("thread/", uses_a_thread),
    path("waits/", waits),
    path("stream/", stream),
    path("file/", file),
    path("outlived/", outlived),
]


@pytest.fixture(autouse=True)
def _project() -> Iterator[None]:
    EVENTS.clear()
    TASKS.clear()
    with override_settings(
        ROOT_URLCONF=sys.modules[__name__], MIDDLEWARE=[], ALLOWED_HOSTS=["*"]
    ):
        yield


@pytest.fixture
def receivers() -> Iterator[None]:
    def on_start(**kwargs: Any) -> None:
        EVENTS.append("started")

    def on_finish(**kwargs: Any) -> None:
        EVENTS.append("finished")

    request_started.connect(on_start)
    request_finished.connect(on_finish)
    yield
    request_started.disconnect(on_start)
    request_finished.disconnect(on_finish)


def test_default_middleware_takes_no_thread(pool: ThreadPool) -> None:
    with override_settings(MIDDLEWARE=DEFAULT_MIDDLEWARE):
        client = Conversation("/")
        client.run(ASGIHandler(pool))

    assert client.content == b"hello"
    assert dict(client.headers)[b"X-Frame-Options"] == b"DENY"
    assert pool.stats().threads == 0


def test_synchronous_code_of_a_view_has_one_thread(pool: ThreadPool) -> None:
    client = Conversation("/thread/")
    client.run(ASGIHandler(pool))

    assert client.content == b"1"
    assert (pool.stats().running, pool.stats().parked) == (0, 0)


@pytest.mark.usefixtures("receivers")
def test_receivers_of_the_project_run(pool: ThreadPool) -> None:
    Conversation("/").run(ASGIHandler(pool))

    assert EVENTS == ["started", "finished"]


@pytest.mark.usefixtures("receivers")
def test_client_that_leaves_cancels_the_view(pool: ThreadPool) -> None:
    client = Conversation("/waits/")

    async def main() -> None:
        request = asyncio.create_task(client.request(ASGIHandler(pool)))
        await wait_until(lambda: "view begins" in EVENTS)
        client.leave()
        await request

    asyncio.run(main())
    assert EVENTS == ["started", "view begins", "view cancelled", "finished"]
    assert client.sent == []


@pytest.mark.usefixtures("receivers")
def test_server_that_cancels_gets_the_request_finished(pool: ThreadPool) -> None:
    async def main() -> None:
        client = Conversation("/waits/")
        request = asyncio.create_task(client.request(ASGIHandler(pool)))
        await wait_until(lambda: "view begins" in EVENTS)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(main())
    assert EVENTS[-1] == "finished"


def test_stream_holds_no_thread(pool: ThreadPool) -> None:
    parked: list[int] = []
    client = Conversation("/stream/")
    client.on_send = lambda message: parked.append(pool.stats().parked)
    client.run(ASGIHandler(pool))

    assert client.content == b"tick" * 3
    # One at the head, which the view has left parked; none during the stream.
    assert parked == [1, 0, 0, 0, 0]


def test_file_is_left_to_a_server_that_takes_paths(pool: ThreadPool) -> None:
    client = Conversation("/file/", extensions={PATHSEND: {}})
    client.run(ASGIHandler(pool))

    assert client.sent[1:] == [{"type": PATHSEND, "path": __file__}]


def test_file_goes_through_python_otherwise(pool: ThreadPool) -> None:
    client = Conversation("/file/")
    client.run(ASGIHandler(pool))

    assert client.content == Path(__file__).read_bytes()


def test_task_that_outlives_its_request_still_has_threads(pool: ThreadPool) -> None:
    async def main() -> None:
        await Conversation("/outlived/").request(ASGIHandler(pool))
        for task, answered in TASKS.items():
            answered.set()
            await task

    asyncio.run(main())
    assert EVENTS[0].startswith("djserve-")


def test_request_that_cannot_be_made_is_refused(pool: ThreadPool) -> None:
    client = Conversation("/")
    client.scope["query_string"] = b"\xff"
    client.run(ASGIHandler(pool))

    assert client.status == 400
