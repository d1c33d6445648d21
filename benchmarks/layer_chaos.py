"""What sockets lose while workers are rolled, killed and stopped: groups, no Redis.

    python -m benchmarks.layer_chaos [--rate 500] [--sockets 200] [--groups 20]

djserve serves a Channels consumer with two workers. Sockets join groups, this process
sends numbered messages to the groups by the layer itself, and every socket notes what
it gets. Lost is a number that is missing between two that the same connection got; a
socket whose worker has ended connects anew. During each act the delay of messages to
sockets of the workers that are left alone is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from benchmarks.processes import BenchmarkError
from benchmarks.transfers import free_port

FOLDER = "BENCHMARK_LAYER_FOLDER"
START_TIMEOUT = 120

if not settings.configured:
    settings.configure(
        DATABASES={},
        SECRET_KEY="benchmark",
        CHANNEL_LAYERS={
            "default": {
                "BACKEND": "djserve.channels.HostChannelLayer",
                "CONFIG": {"folder": os.environ.get(FOLDER), "capacity": 5000},
            }
        },
    )


class Member(AsyncWebsocketConsumer):  # type: ignore[misc] # Channels has no types
    """A socket in the group that its path names."""

    async def connect(self) -> None:
        self.group = self.scope["path"].strip("/")
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()
        await self.send(f"pid {os.getpid()}")

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def said(self, event: dict[str, Any]) -> None:
        await self.send(f"{event['number']} {event['at']}")


application = Member.as_asgi()


@dataclass
class Tally:
    """What the sockets have seen in one act."""

    got: int = 0
    lost: int = 0
    connections: int = 0
    delays: list[tuple[int, float]] = field(default_factory=list)

    def row(self, act: str, but: int = 0) -> str:
        """Return a line; ``but`` is the worker that was not left alone."""
        delays = [delay for worker, delay in self.delays if worker != but] or [0.0]
        late = statistics.quantiles(delays, n=100)[98] if len(delays) > 1 else 0.0
        return (
            f"{act:<28} {self.got:>8,} got {self.lost:>5} lost "
            f"{self.connections:>5} new connections {late * 1e3:>8.1f} ms p99"
        )


class Crowd:
    """All sockets, and the sender."""

    def __init__(self, url: str, sockets: int, groups: int, rate: float) -> None:
        self._url = url
        self._sockets = sockets
        self._groups = groups
        self._rate = rate
        self.tally = Tally()
        self.workers: dict[int, int] = {}
        self._heard: set[int] = set()

    def begin(self) -> None:
        """Count anew."""
        self.tally = Tally()

    async def stay(self, number: int) -> None:
        """Be one socket, connected again whenever its connection has ended."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import WebSocketException

        url = f"{self._url}/group.{number % self._groups}"
        while True:
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                async with connect(url, open_timeout=20, ping_interval=None) as socket:
                    self.tally.connections += 1
                    await self._listen(number, socket)
            await asyncio.sleep(0.2)

    async def _listen(self, number: int, socket: Any) -> None:
        last, worker = -1, 0
        async for text in socket:
            first, second = text.split()
            if first == "pid":
                worker = self.workers[number] = int(second)
                continue
            if last >= 0:
                self.tally.lost += int(first) - last - 1
            last = int(first)
            self.tally.got += 1
            self._heard.add(number)
            self.tally.delays.append((worker, time.monotonic() - float(second)))

    async def send(self, layer: Any) -> None:
        """Send to one group after the other, at the rate."""
        begin, sent = time.monotonic(), 0
        while True:
            while sent < (time.monotonic() - begin) * self._rate:
                group, number = sent % self._groups, sent // self._groups
                event = {"type": "said", "number": number, "at": time.monotonic()}
                await layer.group_send(f"group.{group}", event)
                sent += 1
            await asyncio.sleep(0.002)

    async def wait_for_others(self, old: set[int]) -> None:
        """Return once no socket is connected to one of these workers."""
        async with asyncio.timeout(START_TIMEOUT):
            while old & set(self.workers.values()):  # noqa: ASYNC110 - plain values
                await asyncio.sleep(0.05)

    async def wait_for_all(self) -> None:
        """Return once every socket has had a message from now on."""
        self._heard.clear()
        async with asyncio.timeout(START_TIMEOUT):
            while len(self._heard) < self._sockets:  # noqa: ASYNC110 - plain values
                await asyncio.sleep(0.05)


@contextlib.contextmanager
def serving(folder: str, port: int) -> Iterator[int]:
    """Serve with two workers; yield the supervisor's process."""
    log = Path(folder, "log")
    command = [sys.executable, "-m", "djserve", "benchmarks.layer_chaos:application"]
    command += [
        "--bind",
        f"127.0.0.1:{port}",
        "--workers",
        "2",
        "--websocket-drain-time",
        "1",
    ]
    environ = {**os.environ, FOLDER: folder}
    # The settings are those of this module.
    environ.pop("DJANGO_SETTINGS_MODULE", None)
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environ)
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait()


def children(pid: int) -> Iterator[int]:
    """Yield the workers of a supervisor."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (task / "children").read_text().split())


def resident(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise BenchmarkError(f"Process {pid} has ended")
    return int(found[1]) / 1024


async def run(options: argparse.Namespace, server: int, port: int) -> int:
    """Do all acts; return how many messages were lost."""
    from channels.layers import get_channel_layer

    lost = 0
    crowd = Crowd(
        f"ws://127.0.0.1:{port}", options.sockets, options.groups, options.rate
    )
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(crowd.stay(number)) for number in range(options.sockets)
        ]
        running.append(tasks.create_task(crowd.send(get_channel_layer())))
        await crowd.wait_for_all()
        for act in options.acts.split(","):
            crowd.begin()
            apart = await _act(act, server, crowd)
            if act != "supervisor":
                await crowd.wait_for_all()
            await asyncio.sleep(options.seconds)
            print(crowd.tally.row(act, apart), flush=True)
            lost += crowd.tally.lost
        for task in running:
            task.cancel()
    return lost


async def _act(act: str, server: int, crowd: Crowd) -> int:
    """Do something to the server; return the worker that it was done to."""
    workers = sorted(set(crowd.workers.values()) & set(_descendants(server)))
    victim = workers[0] if workers else 0
    if act.startswith("hup"):
        for _ in range(int(act.removeprefix("hup") or 1)):
            old = set(crowd.workers.values())
            os.kill(server, signal.SIGHUP)
            await crowd.wait_for_others(old)
    elif act == "kill":
        os.kill(victim, signal.SIGKILL)
    elif act == "stop":
        os.kill(victim, signal.SIGSTOP)
        await asyncio.sleep(10)
        print(f"  sender's memory {resident(os.getpid()):.0f} MiB")
        os.kill(victim, signal.SIGCONT)
    elif act == "supervisor":
        os.kill(server, signal.SIGKILL)
    elif act != "calm":
        raise BenchmarkError(f"Unknown act {act!r}")
    return victim if act in ("kill", "stop") else 0


def _descendants(pid: int) -> Iterator[int]:
    for child in children(pid):
        yield child
        with contextlib.suppress(FileNotFoundError):
            yield from _descendants(child)


def main() -> None:
    """Print a line for each act; exit with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--sockets", type=int, default=200)
    parser.add_argument("--groups", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--acts", default="calm,stop,hup10,kill,supervisor")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings.CHANNEL_LAYERS["default"]["CONFIG"]["folder"] = folder
        port = free_port()
        with serving(folder, port) as server:
            lost = asyncio.run(run(options, server, port))
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
