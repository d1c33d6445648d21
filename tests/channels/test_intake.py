from __future__ import annotations

import asyncio
import logging
import socket
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from djserve.channels import intake as intake_module
from djserve.channels.folder import LayerFolder, find_folder
from djserve.channels.frames import Frame, FrameKind, pack_frame
from djserve.channels.intake import Intake
from tests.support.shortage import without_descriptors
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

LIMIT = 1 << 20


class Site:
    """A folder with an intake, and what that has delivered."""

    def __init__(self, folder: str) -> None:
        self.place = LayerFolder(find_folder(folder, "asgi"))
        self.place.make()
        self.delivered: list[str] = []
        self.lags = False
        self.intake = Intake(self.place, "own", LIMIT, self.deliver)

    def deliver(self, frame: Frame) -> bool:
        self.delivered.append(frame.name)
        if self.lags:
            asyncio.get_running_loop().call_soon(self.delivered.append, "turn")
        return self.lags

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.place.place_of("own"))
        return sock

    async def arrived(self, count: int) -> list[str]:
        await wait_until(lambda: len(self.delivered) >= count)
        return self.delivered


RunSite = Callable[[Callable[[Site], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def run_site(folder: str) -> RunSite:
    """Run a scenario on a loop that the intake is attached to."""

    def run(scenario: Callable[[Site], Coroutine[Any, Any, None]]) -> None:
        async def attached() -> None:
            site = Site(folder)
            site.intake.attach(asyncio.get_running_loop())
            try:
                await scenario(site)
            finally:
                site.intake.close()

        asyncio.run(attached())

    return run


def frame(name: str) -> bytes:
    return pack_frame(FrameKind.GROUP, name, 1.0, b"")


class CountingIntake(Intake):
    accepts = 0

    def _accept(self) -> None:
        self.accepts += 1
        super()._accept()


def test_connection_without_a_descriptor_waits_and_costs_nothing(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "_REST", 600.0)

    async def scenario() -> None:
        site = Site(folder)
        site.intake.close()
        site.intake = intake = CountingIntake(site.place, "own", LIMIT, site.deliver)
        intake.attach(asyncio.get_running_loop())
        with without_descriptors(spare=1):
            sock = site.connect()
            await wait_until(lambda: intake.accepts > 0)
            for _ in range(20):
                await asyncio.sleep(0)
            assert intake.accepts == 1

            monkeypatch.setattr(intake_module, "_REST", 0.01)
            intake.attach(asyncio.get_running_loop())
            await wait_until(lambda: intake.accepts > 2)
        sock.sendall(frame("a"))
        assert await site.arrived(1) == ["a"]
        sock.close()
        intake.close()

    asyncio.run(scenario())


def test_frames_of_all_connections_are_delivered(run_site: RunSite) -> None:
    async def scenario(site: Site) -> None:
        with site.connect() as one, site.connect() as other:
            one.sendall(frame("a")[:9])
            other.sendall(frame("b") + frame("c"))
            await site.arrived(2)
            one.sendall(frame("a")[9:])

            assert await site.arrived(3) == ["b", "c", "a"]

    run_site(scenario)


def test_what_was_sent_before_a_connection_ended_is_delivered(
    run_site: RunSite,
) -> None:
    async def scenario(site: Site) -> None:
        with site.connect() as sock:
            sock.sendall(frame("a"))

        assert await site.arrived(1) == ["a"]

    run_site(scenario)


def test_loop_gets_a_turn_between_frames_while_receivers_lag(
    run_site: RunSite,
) -> None:
    async def scenario(site: Site) -> None:
        site.lags = True
        with site.connect() as sock:
            sock.sendall(b"".join(map(frame, "abc")))
            await site.arrived(6)
            sock.sendall(frame("d"))

            await site.arrived(8)
            assert site.delivered == [
                "a",
                "turn",
                "b",
                "turn",
                "c",
                "turn",
                "d",
                "turn",
            ]

    run_site(scenario)


def test_connection_that_sends_no_frames_is_closed(
    run_site: RunSite, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(site: Site) -> None:
        with site.connect() as sock, site.connect() as other:
            sock.sendall(bytes(64))
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            with caplog.at_level(logging.ERROR, "djserve"):
                async with asyncio.timeout(60):
                    assert await loop.sock_recv(sock, 1) == b""
            other.sendall(frame("a"))
            assert await site.arrived(1) == ["a"]

    run_site(scenario)
    assert "no frame begins with" in caplog.text


def test_process_of_another_user_is_refused(
    run_site: RunSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "is_trusted", lambda sock, owner: False)

    async def scenario(site: Site) -> None:
        with site.connect() as sock:
            sock.sendall(frame("a"))
            sock.setblocking(False)
            async with asyncio.timeout(60):
                try:
                    answer = await asyncio.get_running_loop().sock_recv(sock, 1)
                except ConnectionResetError:
                    # What it had sent was not read.
                    answer = b""
            assert answer == b""
            assert site.delivered == []

    run_site(scenario)


def test_next_loop_reads_on_where_the_last_one_ended(folder: str) -> None:
    site = Site(folder)
    with site.connect() as sock:

        async def first() -> None:
            site.intake.attach(asyncio.get_running_loop())
            sock.sendall(frame("a") + frame("b")[:5])
            await site.arrived(1)

        async def second() -> None:
            site.intake.attach(asyncio.get_running_loop())
            sock.sendall(frame("b")[5:])
            await site.arrived(2)

        asyncio.run(first())
        asyncio.run(second())
    site.intake.close()

    assert site.delivered == ["a", "b"]


def test_socket_is_its_owners_alone(folder: str) -> None:
    site = Site(folder)
    status = Path(site.place.place_of("own")).stat()
    site.intake.close()

    assert stat.S_IMODE(status.st_mode) == 0o600
