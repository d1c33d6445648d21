"""A load of many connections that all get the same: deliveries a second are printed.

``--kind broadcast``: one WebSocket sends, all get each message, and the next is sent
when the last has arrived everywhere, ``--depth`` of them on their way at any time.
``--kind events``: event streams that are read as fast as they come.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import uvloop

from benchmarks.apps import EVENT_MARK
from benchmarks.clients import Client, http_request, open_clients, websocket_request
from benchmarks.websocket_load import build_frame


class Member(Client):
    """A WebSocket that gets the broadcasts."""

    status = b"HTTP/1.1 101"

    def __init__(self, load: Broadcast) -> None:
        super().__init__(websocket_request(load.port))
        self._load = load
        self._bytes = 0

    def body_received(self, data: bytes) -> None:
        self._bytes += len(data)
        messages, self._bytes = divmod(self._bytes, self._load.message_size)
        self._load.delivered(messages)


class Broadcast:
    """All members, and what has been delivered to them together."""

    def __init__(self, port: int, depth: int) -> None:
        self.port = port
        self.count = 0
        self._depth = depth
        self._frame = build_frame(64)
        # What a server sends is not masked.
        self.message_size = len(self._frame) - 4
        self._members: list[Member] = []
        self._sent = 0

    async def open(self, connections: int) -> None:
        self._members = await open_clients(lambda: Member(self), self.port, connections)
        self._send(self._depth)

    def delivered(self, messages: int) -> None:
        self.count += messages
        missing = self._sent * len(self._members) - self.count
        if missing <= (self._depth - 1) * len(self._members):
            self._send(1)

    def _send(self, messages: int) -> None:
        self._sent += messages
        self._members[0].transport.write(self._frame * messages)


class Listener(Client):
    """A client of an event stream."""

    def __init__(self, load: Events) -> None:
        super().__init__(http_request(load.port, "/events"))
        self._load = load

    def body_received(self, data: bytes) -> None:
        # One byte marks an event, so that none is cut in two.
        self._load.count += data.count(EVENT_MARK)


class Events:
    """All clients, and the events that have come to them together."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.count = 0

    async def open(self, connections: int) -> None:
        await open_clients(lambda: Listener(self), self.port, connections)


async def measure(load: Broadcast | Events, connections: int, seconds: float) -> float:
    """Return deliveries a second, after a short time to warm up."""
    await load.open(connections)
    await asyncio.sleep(min(0.5, seconds / 4))
    print("open", flush=True)
    started, before = time.perf_counter(), load.count
    await asyncio.sleep(seconds)
    return (load.count - before) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=("broadcast", "events"), required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    load: Broadcast | Events = Events(options.port)
    if options.kind == "broadcast":
        load = Broadcast(options.port, options.depth)
    print(f"{uvloop.run(measure(load, options.connections, options.seconds)):.0f}")


if __name__ == "__main__":
    main()
