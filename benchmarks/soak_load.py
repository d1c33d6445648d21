"""The load of a soak: clients of each kind, and h2load beside them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import shutil
from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from benchmarks.processes import BenchmarkError
from benchmarks.soak_http1 import HTTP1Client
from benchmarks.soak_http2 import HTTP2Client
from benchmarks.soak_tally import Tally, Target
from benchmarks.soak_websocket import WebSocketClient

BUSY_CLIENTS = 8
IDLE_CLIENTS = 16
FRESH_CLIENTS = 2
HTTP2_CLIENTS = 2
HTTP2_STREAMS = 4
WEBSOCKET_CLIENTS = 8


class Client(Protocol):
    """A client of any kind."""

    async def run(self, over: asyncio.Event) -> None:
        """Keep the server busy until ``over`` is set."""


def load(target: Target, tally: Tally) -> contextlib.AbstractAsyncContextManager[None]:
    """Keep a server busy during the block; return when every client has ended."""
    return running(_clients(target, tally))


@contextlib.asynccontextmanager
async def running(clients: Iterable[Client]) -> AsyncIterator[None]:
    """Run clients during the block; return when every one has ended."""
    over = asyncio.Event()
    tasks = [asyncio.create_task(client.run(over)) for client in clients]
    try:
        yield
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
    finally:
        over.set()
        await asyncio.gather(*tasks)


def _clients(target: Target, tally: Tally) -> list[Client]:
    chance = random.Random()

    def busy() -> float:
        return chance.uniform(0, 0.02)

    def idle() -> float:
        # Around DRAIN_IDLE_TIMEOUT: requests that meet the end of their connection.
        return chance.uniform(0.5, 1.5)

    return [
        *(HTTP1Client(target, tally, busy) for _ in range(BUSY_CLIENTS)),
        *(HTTP1Client(target, tally, idle) for _ in range(IDLE_CLIENTS)),
        *(HTTP1Client(target, tally, busy, keeps=False) for _ in range(FRESH_CLIENTS)),
        *(HTTP2Client(target, tally, HTTP2_STREAMS) for _ in range(HTTP2_CLIENTS)),
        *(WebSocketClient(target, tally, n) for n in range(WEBSOCKET_CLIENTS)),
    ]


async def run_h2load(target: Target, seconds: float, is_http1: bool) -> dict[str, int]:
    """Run h2load beside the clients; return its counts of requests by outcome."""
    program = shutil.which("h2load")
    if program is None:
        raise BenchmarkError("h2load is not installed")
    scheme = "https" if target.certificate else "http"
    words = [program, "-D", f"{seconds:.0f}", "-c", "2", "-t", "1"]
    words += ["--h1"] if is_http1 else ["-m", "2"]
    process = await asyncio.create_subprocess_exec(
        *words,
        f"{scheme}://127.0.0.1:{target.port}/slow/",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    found = re.search(r"^requests: (.*)$", output.decode(), re.MULTILINE)
    if found is None:
        raise BenchmarkError(f"h2load failed: {output.decode()}")
    counts = re.findall(r"(\d+) (\w+)", found[1])
    return {what: int(count) for count, what in counts}
