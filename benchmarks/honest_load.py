"""Clients that ask for a page now and then: what each of their requests took.

    python -m benchmarks.honest_load --port 8000 [--clients 10] [--pause 0.1]

They are a process of their own, so that those of ``benchmarks.pressure`` do not hold
them up. It prints "open" once it begins, and at the end of its input one line of JSON:
the latencies in seconds, and how many requests failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass, field

PATIENCE = 10.0
"""Seconds after which a request has failed."""

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Honest:
    """What became of the requests."""

    latencies: list[float] = field(default_factory=list)
    failed: int = 0

    async def ask(self, port: int, over: asyncio.Event, pause: float) -> None:
        """Make one request after the other, on a connection while it lasts."""
        streams: Streams | None = None
        while not over.is_set():
            begun = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE):
                    if streams is None:
                        streams = await asyncio.open_connection("127.0.0.1", port)
                    streams[1].write(REQUEST)
                    await streams[0].readuntil(b"Hello, world!")
                self.latencies.append(time.monotonic() - begun)
            except (OSError, asyncio.IncompleteReadError):
                self.failed += 1
                if streams is not None:
                    streams[1].transport.abort()
                streams = None
            await asyncio.sleep(pause)
        if streams is not None:
            streams[1].transport.abort()


async def run(port: int, clients: int, pause: float) -> Honest:
    """Ask until this process's input ends."""
    over, honest = asyncio.Event(), Honest()
    asyncio.get_running_loop().add_reader(sys.stdin, over.set)
    print("open", flush=True)
    await asyncio.gather(*(honest.ask(port, over, pause) for _ in range(clients)))
    return honest


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--pause", type=float, default=0.1)
    options = parser.parse_args()
    honest = asyncio.run(run(options.port, options.clients, options.pause))
    print(json.dumps({"latencies": honest.latencies, "failed": honest.failed}))


if __name__ == "__main__":
    main()
