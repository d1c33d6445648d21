"""An open-loop load: requests are due at fixed times, whatever became of the earlier.

Each latency counts from the time when its request was due, so a server that stalls
shows in all the requests that had to wait, not only in those that were on their way.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import cast

import uvloop

from benchmarks.clients import http_request, websocket_request
from benchmarks.processes import BenchmarkError
from benchmarks.websocket_load import build_frame

MESSAGE_SIZE = 64
ECHO_SIZE = 2 + MESSAGE_SIZE
GRACE = 30.0
"""Seconds for what is still on its way when the load ends."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class Work:
    """Requests of one path, or echoes of WebSocket messages where there is none.

    Without a rate, each connection makes its next request when it has an answer.
    """

    name: str
    path: str
    connections: int
    rate: float = 0.0
    latencies: list[float] = field(default_factory=list)

    def percentile(self, part: float) -> float:
        """Return the latency in seconds that this part of all did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class PacedConnection(asyncio.Protocol):
    """One connection, with one request on its way; others that are due wait for it."""

    def __init__(self, work: Work, port: int) -> None:
        self._work = work
        self._received = b""
        self._due: deque[float] = deque()
        self._is_ready = bool(work.path)
        self._request = http_request(port, work.path)
        self._handshake = b"" if work.path else websocket_request(port)
        if not work.path:
            self._request = build_frame(MESSAGE_SIZE)
        self.is_closing = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failure = ""
        self.idle = asyncio.Event()
        """Set while nothing is on its way or due, and after a failure."""
        self.idle.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        if self._handshake:
            self._transport.write(self._handshake)
        else:
            self.ready.set_result(None)

    def request(self, due: float) -> None:
        """Make a request now, or after those that were due before."""
        if self.failure:
            return
        self._due.append(due)
        self.idle.clear()
        if len(self._due) == 1:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._is_ready:
            self._take_handshake()
        elif self._has_answer():
            self._take_answer()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.is_closing:
            self._fail(f"connection lost: {exc}")

    def _take_handshake(self) -> None:
        head, end, self._received = self._received.partition(b"\r\n\r\n")
        if not end:
            self._received = head
        elif head.startswith(b"HTTP/1.1 101"):
            self._is_ready = True
            self.ready.set_result(None)
        else:
            self._fail(repr(head[:100]))

    def _has_answer(self) -> bool:
        if not self._work.path:
            return len(self._received) >= ECHO_SIZE
        head, end, content = self._received.partition(b"\r\n\r\n")
        if not end:
            return False
        length = _LENGTH.search(head)
        if not head.startswith(b"HTTP/1.1 200") or length is None:
            self._fail(repr(head[:100]))
            return False
        return len(content) >= int(length[1])

    def _take_answer(self) -> None:
        self._received = b""
        self._work.latencies.append(time.perf_counter() - self._due.popleft())
        if self._due:
            self._transport.write(self._request)
        elif not self._work.rate and not self.is_closing:
            self.request(time.perf_counter())
        else:
            self.idle.set()

    def _fail(self, reason: str) -> None:
        self.failure = reason
        self.idle.set()
        if not self.ready.done():
            self.ready.set_exception(BenchmarkError(reason))

    def close(self) -> None:
        self.is_closing = True
        self._transport.close()


def run_paced(port: int, works: list[Work], seconds: float) -> None:
    """Load a server with all works at once; their latencies are in them afterwards.

    Raises BenchmarkError where a request failed or was not answered.
    """
    uvloop.run(_run(port, works, seconds))


async def _run(port: int, works: list[Work], seconds: float) -> None:
    groups = [(work, await _connect(work, port)) for work in works]
    connections = [each for _, group in groups for each in group]
    try:
        async with asyncio.TaskGroup() as tasks:
            for work, group in groups:
                tasks.create_task(_drive(work, group, seconds))
        await _drain([each for work, group in groups if work.rate for each in group])
    finally:
        for connection in connections:
            connection.close()
    failures = [each.failure for each in connections if each.failure]
    if failures:
        raise BenchmarkError(f"{len(failures)} connections failed: {failures[0]}")


async def _connect(work: Work, port: int) -> list[PacedConnection]:
    loop = asyncio.get_running_loop()
    group: list[PacedConnection] = []
    for _ in range(work.connections):
        _, connection = await loop.create_connection(
            lambda: PacedConnection(work, port), "127.0.0.1", port
        )
        await connection.ready
        group.append(connection)
    return group


async def _drive(work: Work, group: list[PacedConnection], seconds: float) -> None:
    begun = time.perf_counter()
    if not work.rate:
        for connection in group:
            connection.request(begun)
        await asyncio.sleep(seconds)
        return
    for number in range(int(seconds * work.rate)):
        due = begun + number / work.rate
        # Never early: a sleep of nothing lets the answers in.
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        group[number % len(group)].request(due)


async def _drain(group: list[PacedConnection]) -> None:
    async with asyncio.timeout(GRACE):
        for each in group:
            await each.idle.wait()
