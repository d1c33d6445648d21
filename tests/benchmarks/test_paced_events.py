"""Event streams at a fixed rate: what is sent when, and what counts as late."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from benchmarks.paced_events import Listener, Load, application


def test_bursts_are_due_one_interval_after_the_other() -> None:
    bodies: list[bytes] = []

    async def send(message: Any) -> None:
        bodies.append(message.get("body", b""))
        if len(bodies) > 8:
            raise ConnectionResetError

    scope = {"type": "http", "path": "/events", "query_string": b"1000-3-0.5"}
    asyncio.run(application(scope, None, send))
    dues = [float(body.partition(b"data: ")[2]) for body in bodies[2:8]]

    assert dues[0] == dues[1] == dues[2]
    assert dues[3] == dues[4] == dues[5] == pytest.approx(dues[0] + 0.003, abs=2e-6)


def test_events_are_counted_whole_and_the_reads_that_end_some() -> None:
    async def listen() -> Load:
        load = Load(1, clients=2, rate=5.0, burst=1)
        listener = Listener(load, 0)
        listener.body_received(b"event: tick\ndata: 1.0\n\n")
        load.begun = 0.0
        for data in (b": hi\n\nevent: tick\nda", b"ta: 1.0\n\ndata: 2.5\n\n", b"da"):
            listener.body_received(data)
        return load

    load = asyncio.run(listen())

    assert load.reads == 1
    assert load.delays[0] - load.delays[1] == pytest.approx(1.5)
