"""A process of a site that does with its channel layer what its standard input says.

    python -m tests.channels.member FOLDER [OPTIONS AS JSON]

Each line is a call, ``[method, arguments]`` in JSON; so is each answer. Beside the
layer's own methods there are those of ``Member``.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import django
from django.conf import settings

from djserve.channels import HostChannelLayer
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


class Member:
    """What a process does with its layer, for as long as it is told."""

    def __init__(self, layer: HostChannelLayer) -> None:
        self.layer = layer
        self.collected: dict[str, list[Any]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def collect(self, channel: str) -> None:
        """Receive from a channel from now on."""
        self.collected[channel] = []
        self._tasks.append(asyncio.create_task(self._receive(channel)))
        await asyncio.sleep(0)

    async def _receive(self, channel: str) -> None:
        while True:
            self.collected[channel].append(await self.layer.receive(channel))

    async def join(self, group: str, count: int) -> list[str]:
        """Be in a group with so many channels, and collect from each."""
        names = [await self.layer.new_channel() for _ in range(count)]
        for name in names:
            await self.layer.group_add(group, name)
            await self.collect(name)
        return names

    async def messages(self, channel: str, count: int = 0) -> list[Any]:
        """Return what came, once there are so many."""
        await wait_until(lambda: len(self.collected[channel]) >= count)
        return self.collected[channel]

    async def end(self) -> None:
        """Stop receiving, as a worker does that ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []


class Process:
    """One such process, as its test drives it."""

    def __init__(self, folder: str, **options: Any) -> None:
        command = [sys.executable, "-m", "tests.channels.member", folder]
        self._process = subprocess.Popen(
            [*command, json.dumps(options)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def call(self, method: str, *arguments: Any) -> Any:
        """Do something there and return what it returned."""
        self.begin(method, *arguments)
        return self.answer()

    def begin(self, method: str, *arguments: Any) -> None:
        self._pipe(self._process.stdin).write(
            json.dumps([method, arguments]).encode() + b"\n"
        )
        self._pipe(self._process.stdin).flush()

    def answer(self) -> Any:
        line = self._pipe(self._process.stdout).readline()
        assert line, "The process has ended"
        return json.loads(line)

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe

    def stop(self) -> None:
        """Let it end of its own accord."""
        self._pipe(self._process.stdin).close()
        self._process.wait(60)
        self._pipe(self._process.stdout).close()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                self._pipe(pipe).close()
            except BrokenPipeError:
                pass


async def _obey(member: Member) -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(0, "rb")
    )
    while line := await lines.readline():
        method, arguments = json.loads(line)
        call = getattr(member, method, None) or getattr(member.layer, method)
        result = await call(*arguments)
        os.write(1, json.dumps(result).encode() + b"\n")
    await member.end()


def main() -> None:
    folder, options = sys.argv[1], json.loads(sys.argv[2])
    settings.configure(DATABASES={}, SECRET_KEY="of the tests")
    django.setup()
    asyncio.run(_obey(Member(HostChannelLayer(folder=folder, **options))))


if __name__ == "__main__":
    main()
