"""What messages of Channels cost by each channel layer, with all processes counted.

    python -m benchmarks.channel_layers [--seconds 3] [--layers host,memory,redis]

``send`` sends to one channel, whose receiver answers. ``group`` sends to a group whose
members are spread over the processes; once those of a process all have the message, it
says so by the layer, and when all have said so the next message is sent. Nothing is
lost on the way, or the run ends.

CPU time is that of all processes, of Redis too, a delivered message.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.django_handler import free_port
from benchmarks.processes import BenchmarkError

LAYERS = {
    "host": "djserve.channels.HostChannelLayer",
    "memory": "channels.layers.InMemoryChannelLayer",
    "redis": "channels_redis.core.RedisChannelLayer",
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
}
SIZES = (64, 16 * 1024)
MEMBERS = (10, 100, 1000)
PATIENCE = 60
GROUP = "benchmark"


@dataclass(frozen=True)
class Result:
    """One run: how many messages were delivered, and what that took."""

    deliveries: int
    seconds: float
    processor: float
    rounds: list[float]

    def __str__(self) -> str:
        rate = self.deliveries / self.seconds
        cost = self.processor / self.deliveries * 1e6
        median = statistics.median(self.rounds) * 1e3
        return f"{rate:>9,.0f}/s {cost:>7.1f} us CPU {median:>9.2f} ms p50"


# One process


class Worker:
    """Hold members of the group, and send if it is told to."""

    def __init__(self, layer: Any, size: int) -> None:
        self._layer = layer
        self._message = {"type": "said", "text": "x" * size}
        self._tasks: list[asyncio.Task[None]] = []
        self._left = 0
        self._members = 0

    async def control(self) -> str:
        """Return the name of a channel on which others report to this process."""
        name: str = await self._layer.new_channel()
        self._control = name
        return name

    async def join(self, members: int, report_to: str) -> None:
        """Have so many members, and report each message that all have."""
        self._members = self._left = members
        for _ in range(members):
            name = await self._layer.new_channel()
            await self._layer.group_add(GROUP, name)
            self._tasks.append(asyncio.create_task(self._receive(name, report_to)))
        await asyncio.sleep(0.3)

    async def _receive(self, name: str, report_to: str) -> None:
        while True:
            await self._layer.receive(name)
            self._left -= 1
            if not self._left:
                self._left = self._members
                await self._layer.send(report_to, {"type": "done"})

    async def echo(self) -> str:
        """Return the name of a channel whose messages are answered."""
        name: str = await self._layer.new_channel()
        self._tasks.append(asyncio.create_task(self._answer(name)))
        await asyncio.sleep(0.3)
        return name

    async def _answer(self, name: str) -> None:
        while True:
            message = await self._layer.receive(name)
            await self._layer.send(message["to"], message)

    async def run_group(self, processes: int, seconds: float) -> list[float]:
        """Send to the group until the time is over; return what each took."""
        return await self._run(
            seconds, lambda: self._layer.group_send(GROUP, self._message), processes
        )

    async def run_send(self, channel: str, seconds: float) -> list[float]:
        """Send to a channel that answers; return what each took."""
        message = {**self._message, "to": self._control}
        return await self._run(seconds, lambda: self._layer.send(channel, message), 1)

    async def _run(self, seconds: float, send: Any, answers: int) -> list[float]:
        rounds: list[float] = []
        end = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < end:
            await send()
            async with asyncio.timeout(PATIENCE):
                for _ in range(answers):
                    await self._layer.receive(self._control)
            rounds.append(time.perf_counter() - begin)
        return rounds

    async def processor(self) -> float:
        """Return the processor time that this process has taken."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime


async def _obey(worker: Worker) -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(0, "rb")
    )
    while line := await lines.readline():
        method, *arguments = json.loads(line)
        result = await getattr(worker, method)(*arguments)
        await asyncio.to_thread(print, json.dumps(result), flush=True)


def work(path: str, config: str, size: int) -> None:
    """Be a worker, told what to do by standard input."""
    from django.conf import settings

    settings.configure(DATABASES={}, SECRET_KEY="benchmark")
    from django.utils.module_loading import import_string

    layer = import_string(path)(**json.loads(config))
    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_obey(Worker(layer, size)))


# All of them


class Process:
    """One worker, as the benchmark drives it."""

    def __init__(self, layer: str, config: dict[str, Any], size: int) -> None:
        command = [sys.executable, "-m", "benchmarks.channel_layers", "--work"]
        self._process = subprocess.Popen(
            [*command, LAYERS[layer], json.dumps(config), str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, *call: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        if answer := self._process.stdout.readline():
            return json.loads(answer)
        raise BenchmarkError(f"A worker has ended at {call[0]}")

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


class Redis:
    """A Redis that keeps nothing, in a folder of its own."""

    def __init__(self) -> None:
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        self._folder = tempfile.mkdtemp()
        self._process = subprocess.Popen(
            ["redis-server", *options, "--dir", self._folder],
            stdout=subprocess.DEVNULL,
        )
        import redis

        client = redis.Redis(port=port)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(redis.ConnectionError):
                client.ping()
                client.close()
                return
            time.sleep(0.05)
        raise BenchmarkError("Redis does not answer")

    def processor(self) -> float:
        with open(f"/proc/{self._process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        shutil.rmtree(self._folder)


@contextlib.contextmanager
def site(layer: str, processes: int, size: int) -> Iterator[tuple[list[Process], Any]]:
    """Start the processes of a site, and Redis if the layer needs one."""
    with contextlib.ExitStack() as stack:
        config: dict[str, Any] = {}
        redis: Redis | None = None
        if layer == "host":
            config["folder"] = stack.enter_context(tempfile.TemporaryDirectory())
        elif layer in ("redis", "pubsub"):
            redis = Redis()
            stack.callback(redis.end)
            config["hosts"] = [{"address": redis.url, "socket_timeout": None}]
        if layer == "redis":
            # It counts the messages of all channels of a process as one channel's.
            config["capacity"] = 5000
        workers = []
        for _ in range(processes):
            workers.append(Process(layer, config, size))
            stack.callback(workers[-1].end)
        yield workers, redis


def measure_group(
    layer: str, processes: int, members: int, size: int, seconds: float
) -> Result:
    """Send to a group that is spread over the processes."""
    with site(layer, processes, size) as (workers, redis):
        control = workers[0].call("control")
        for worker in workers:
            worker.call("join", members // processes, control)
        workers[0].call("run_group", processes, 0.2)
        before = _processor(workers, redis)
        begin = time.perf_counter()
        rounds = workers[0].call("run_group", processes, seconds)
        took = time.perf_counter() - begin
        used = _processor(workers, redis) - before
        return Result(len(rounds) * members, took, used, rounds)


def measure_send(layer: str, processes: int, size: int, seconds: float) -> Result:
    """Send to a channel, of the same process or another, and back."""
    with site(layer, processes, size) as (workers, redis):
        workers[0].call("control")
        if processes > 1:
            workers[-1].call("control")
        channel = workers[-1].call("echo")
        workers[0].call("run_send", channel, 0.2)
        before = _processor(workers, redis)
        begin = time.perf_counter()
        rounds = workers[0].call("run_send", channel, seconds)
        took = time.perf_counter() - begin
        used = _processor(workers, redis) - before
        return Result(2 * len(rounds), took, used, rounds)


def _processor(workers: list[Process], redis: Redis | None) -> float:
    used: float = sum(worker.call("processor") for worker in workers)
    return used + (redis.processor() if redis is not None else 0.0)


def main() -> None:
    """Print a line for each layer and case."""
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--layers", default=",".join(LAYERS))
    parser.add_argument("--members", default=",".join(map(str, MEMBERS)))
    options = parser.parse_args()
    layers = options.layers.split(",")
    for processes in (1, 2):
        for size in SIZES:
            for layer in layers:
                if layer == "memory" and processes > 1:
                    continue
                head = f"{processes} process(es) {size:>6} B"
                sent = measure_send(layer, processes, size, options.seconds)
                print(f"{head} send        {layer:>7} {sent}", flush=True)
                for members in map(int, options.members.split(",")):
                    found = measure_group(
                        layer, processes, members, size, options.seconds
                    )
                    print(f"{head} group {members:>5} {layer:>7} {found}", flush=True)


if __name__ == "__main__":
    main()
