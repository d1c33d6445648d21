"""The worker inside the server."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.db import database_sync_to_async
from channels.routing import ChannelNameRouter
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError
from PIL import Image

from demo_project.background import consumers, lifespan
from demo_project.background.lifespan import Lifespan, listen
from demo_project.chat.models import Attachment, Room
from demo_project.chat.services import attachments


def picture() -> SimpleUploadedFile:
    out = io.BytesIO()
    Image.new("RGB", (20, 10)).save(out, "PNG")
    return SimpleUploadedFile("p.png", out.getvalue())


def in_test_thread(monkeypatch: Any) -> asyncio.Event:
    """Run jobs in the test's thread, the one that has its database; tell when done."""

    async def run_job(self: Any, job: Callable[..., None], *args: Any) -> None:
        await database_sync_to_async(job)(*args)

        done.set()

    done = asyncio.Event()
    monkeypatch.setattr(consumers.JobConsumer, "run", run_job)
    return done


def test_uploaded_picture_gets_its_thumbnail(
    run: Callable[..., Any], ana: User, lobby: Room, monkeypatch: Any
) -> None:
    done = in_test_thread(monkeypatch)
    router = ChannelNameRouter(consumers.CHANNELS)

    async def scenario() -> None:
        worker = asyncio.create_task(listen(router, "media"))
        await database_sync_to_async(attachments.receive)(ana, lobby, picture())
        async with asyncio.timeout(60):
            await done.wait()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

    run(scenario)
    assert str(Attachment.objects.get().thumbnail).endswith(".webp")


def test_task_that_loses_a_cancellation_ends_all_the_same(monkeypatch: Any) -> None:
    monkeypatch.setattr(lifespan, "CANCEL_SECONDS", 0.01)

    async def scenario() -> int:
        lost = 0
        started = asyncio.Event()

        async def deaf() -> None:
            nonlocal lost
            started.set()
            while lost < 3:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    lost += 1
            await asyncio.Event().wait()

        task = asyncio.create_task(deaf())
        await started.wait()
        async with asyncio.timeout(60):
            await lifespan._stop([task])
        assert task.cancelled()
        return lost

    assert asyncio.run(scenario()) == 3


def test_lifespan_starts_and_stops_its_tasks(run: Callable[..., Any]) -> None:
    application = Lifespan(ChannelNameRouter(consumers.CHANNELS))

    async def scenario() -> tuple[set[str], set[str]]:
        server = ApplicationCommunicator(application, {"type": "lifespan"})
        await server.send_input({"type": "lifespan.startup"})
        assert (await server.receive_output())["type"] == "lifespan.startup.complete"
        running = demo_tasks()
        await server.send_input({"type": "lifespan.shutdown"})
        assert (await server.receive_output())["type"] == "lifespan.shutdown.complete"
        return running, demo_tasks()

    running, left = run(scenario)
    assert running == {"demo clock", "demo media", "demo digest"}
    assert left == set()


def test_external_worker_leaves_the_clock_alone_inside(
    run: Callable[..., Any], settings: Any
) -> None:
    settings.DEMO_INPROCESS_WORKER = False
    application = Lifespan(ChannelNameRouter(consumers.CHANNELS))

    async def scenario() -> set[str]:
        server = ApplicationCommunicator(application, {"type": "lifespan"})
        await server.send_input({"type": "lifespan.startup"})
        await server.receive_output()
        running = demo_tasks()
        await server.send_input({"type": "lifespan.shutdown"})
        await server.receive_output()
        return running

    assert run(scenario) == {"demo clock"}


def test_database_without_tables_is_told_of_once(
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(lifespan, "CLOCK_SECONDS", 0.0)

    async def scenario() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        tries = itertools.count(1)

        def fail() -> None:
            number = next(tries)
            if number == 7:
                loop.call_soon_threadsafe(done.set)
            # It is there for a moment, and then away again.
            if number != 4:
                raise OperationalError("no such table")

        monkeypatch.setattr(lifespan, "enqueue_due", fail)
        clock = asyncio.create_task(lifespan.tick())
        async with asyncio.timeout(60):
            await done.wait()
        clock.cancel()
        await asyncio.gather(clock, return_exceptions=True)

    run(scenario)
    said = [record for record in caplog.records if record.name == lifespan.__name__]
    assert [record.exc_info for record in said] == [None, None]
    assert "no such table" in said[0].getMessage()


def demo_tasks() -> set[str]:
    names = {task.get_name() for task in asyncio.all_tasks()}
    return {name for name in names if name.startswith("demo ")}
