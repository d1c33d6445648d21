"""A load on the demo: people in rooms write, and each message must reach each of them.

Every person holds the WebSocket of one room, as a page in a background tab does: it
takes what comes, pings, and marks nothing read. People write in turn at a steady rate.
What came is then checked exactly: the room's versions without a gap, each once, at each
person in it. At last the server is stopped while all this goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import statistics
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import uvloop

from benchmarks.clients import Client, open_clients
from benchmarks.demo_site import CPUTime, Person, Site, open_site
from benchmarks.processes import BenchmarkError

PING_SECONDS = 20.0
WELCOME_TIMEOUT = 60.0
DRAIN_SECONDS = 120.0
STOP_TIMEOUT = 60.0
TALK_SECONDS = 1.0

_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


class Member(Client):
    """One person's WebSocket to one room."""

    status = b"HTTP/1.1 101"

    def __init__(self, person: Person, port: int, tally: Tally) -> None:
        super().__init__(_handshake(person, port))
        self.room = person.room
        self.welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.versions: list[int] = []
        self.first_version = 0
        self._tally = tally
        self._buffer = bytearray()

    def say(self, text: str) -> None:
        """Send a message; when, is noted under its nonce."""
        nonce = str(uuid.uuid4())
        self._tally.note_sent(nonce, self.room)
        self.command("send", nonce=nonce, text=text, attachments=[])

    def command(self, type: str, **fields: object) -> None:
        self._write(_TEXT, json.dumps({"type": type, **fields}).encode())

    def body_received(self, data: bytes) -> None:
        self._buffer += data
        for opcode, payload in _frames(self._buffer):
            if opcode == _PING:
                self._write(_PONG, payload)
            elif opcode == _TEXT:
                self._take(_decode(payload))
            elif opcode == _CLOSE:
                # Section 5.5.1: answered with one, after which the server hangs up.
                self._write(_CLOSE, payload[:2])
                self.is_lost = True

    def _take(self, frame: Mapping[str, object]) -> None:
        match frame:
            case {"type": "message", "message": {"nonce": nonce, "version": version}}:
                self.versions.append(int(version))
                self._tally.note_delivered(str(nonce))
            case {"type": "welcome", "version": version}:
                self.first_version = int(str(version))
                self.welcome.set_result(None)
            case {"type": "error"}:
                self._tally.errors[str(frame["detail"])] += 1

    def _write(self, opcode: int, payload: bytes) -> None:
        # RFC 6455 section 5.3 wants a mask; that of zeros leaves the payload as it is.
        size = len(payload)
        head = bytes((0x80 | opcode, 0x80 | size)) if size < 126 else b""
        head = head or bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
        self.transport.write(head + bytes(4) + payload)


@dataclass
class Tally:
    """What was sent, and how long it took to each who got it."""

    sent_at: dict[str, float] = field(default_factory=dict)
    sent_in: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    latencies: list[float] = field(default_factory=list)
    errors: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    last_at: float = 0.0
    _awaited: int = -1
    _complete: asyncio.Event = field(default_factory=asyncio.Event)

    def note_sent(self, nonce: str, room: str) -> None:
        self.sent_at[nonce] = time.perf_counter()
        self.sent_in[room] += 1

    def note_delivered(self, nonce: str) -> None:
        self.last_at = time.perf_counter()
        self.latencies.append(self.last_at - self.sent_at[nonce])
        if len(self.latencies) == self._awaited:
            self._complete.set()

    def pace(self) -> float:
        """Return messages a second, from the first sent to the last delivered."""
        return len(self.sent_at) / (self.last_at - min(self.sent_at.values()))

    async def wait_for(self, deliveries: int) -> None:
        """Return once that many have come."""
        self._awaited = deliveries
        if len(self.latencies) < deliveries:
            await self._complete.wait()


@dataclass(frozen=True)
class Verdict:
    """What the members got, held against what was sent.

    ``overtaken`` counts events that came after a later one of their room: the channel
    layer promises no order between senders, and the page waits for what is between.
    """

    expected: int
    missing: int
    doubled: int
    overtaken: int

    @property
    def is_exact(self) -> bool:
        return not (self.missing or self.doubled)


def judge(members: list[Member], tally: Tally) -> Verdict:
    """Compare the versions that each member got with those that its room gave out."""
    expected = missing = doubled = overtaken = 0
    for member in members:
        count, first = tally.sent_in[member.room], member.first_version
        wanted = set(range(first + 1, first + count + 1))
        expected += count
        missing += len(wanted - set(member.versions))
        doubled += len(member.versions) - len(set(member.versions))
        pairs = zip(member.versions, member.versions[1:], strict=False)
        overtaken += sum(later < earlier for earlier, later in pairs)
    return Verdict(expected, missing, doubled, overtaken)


class Load:
    """All members of one run."""

    def __init__(self, site: Site, rate: float) -> None:
        self._site = site
        self._rate = rate
        self.tally = Tally()
        self.members: list[Member] = []

    async def open(self) -> None:
        """Connect everybody; return once each has been welcomed."""
        port, crowd = self._site.server.port, iter(self._site.crowd)
        self.members = await open_clients(
            lambda: Member(next(crowd), port, self.tally), port, len(self._site.crowd)
        )
        async with asyncio.timeout(WELCOME_TIMEOUT):
            await asyncio.gather(*(member.welcome for member in self.members))

    async def run(self, seconds: float) -> None:
        """Have them write for a time, then wait for what is still on its way."""
        pings = asyncio.create_task(self._ping(), name="pings")
        try:
            await self._converse(round(self._rate * seconds))
            await self._drain()
        finally:
            pings.cancel()

    async def stop_server(self) -> float:
        """Stop the server in the middle of it all; return how long that took."""
        talk = asyncio.create_task(self._converse(sys.maxsize), name="talk")
        try:
            await asyncio.sleep(TALK_SECONDS)
            return await asyncio.to_thread(self._site.stop, STOP_TIMEOUT)
        finally:
            talk.cancel()

    async def _converse(self, count: int) -> None:
        started = time.perf_counter()
        for number in range(count):
            ahead = started + number / self._rate - time.perf_counter()
            # A sleep of nothing still lets the answers be read.
            await asyncio.sleep(max(0.0, ahead))
            member = self.members[number % len(self.members)]
            if not member.is_lost:
                member.say(f"Number {number} of those that keep this room busy.")

    async def _drain(self) -> None:
        expected = sum(self.tally.sent_in[member.room] for member in self.members)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.tally.wait_for(expected)
        # One that comes twice may come late.
        await asyncio.sleep(0.5)

    async def _ping(self) -> None:
        pause = PING_SECONDS / len(self.members)
        while True:
            for member in self.members:
                await asyncio.sleep(pause)
                member.command("ping")


@dataclass(frozen=True)
class Outcome:
    """What one run came to."""

    verdict: Verdict
    sent: int
    pace: float
    latencies: list[float]
    errors: dict[str, int]
    cpu: CPUTime
    stop_seconds: float

    def lines(self) -> list[str]:
        """Return it for people to read."""
        verdict = self.verdict
        cuts = statistics.quantiles(self.latencies, n=100)
        return [
            f"messages    {self.sent}, to {verdict.expected} deliveries",
            f"pace        {self.pace:.0f} messages a second, until the last came",
            f"missing     {verdict.missing}",
            f"doubled     {verdict.doubled}",
            f"overtaken   {verdict.overtaken}",
            f"latency     p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms, "
            f"worst {max(self.latencies) * 1000:.1f} ms",
            self.cpu.line(self.sent),
            f"stopped in  {self.stop_seconds:.1f} s, with everybody connected",
            *(f"refused     {count}: {why}" for why, count in self.errors.items()),
        ]


async def measure(site: Site, rate: float, seconds: float) -> Outcome:
    """Put the load on a site, and stop the site's server."""
    load = Load(site, rate)
    await load.open()
    before = CPUTime.now(site)
    await load.run(seconds)
    used = CPUTime.now(site).since(before)
    # All of it before the stop: what is written during that counts for nothing.
    verdict, sent = judge(load.members, load.tally), len(load.tally.sent_at)
    pace, latencies = load.tally.pace(), [*load.tally.latencies]
    errors = {**load.tally.errors}
    stopped = await load.stop_server()
    return Outcome(verdict, sent, pace, latencies, errors, used, stopped)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--rooms", type=int, default=50)
    parser.add_argument("--rate", type=float, default=200, help="messages a second")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--redis", action="store_true", help="channel layer in Redis")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    # The demo's own limit (RATE_MESSAGES a RATE_WINDOW); some room for uneven pace.
    if options.rate / options.users > 0.8:
        parser.error("that is more than the rate limit of a person: add users")
    return options


def main() -> int:
    options = parse_options()
    try:
        with open_site(
            options.users, options.rooms, options.workers, options.redis
        ) as site:
            outcome = uvloop.run(measure(site, options.rate, options.seconds))
            trouble = site.server.output
    except BenchmarkError as error:
        print(f"demo_load: {error}", file=sys.stderr)
        return 1
    print("\n".join(outcome.lines()))
    if "Traceback" in trouble:
        print(trouble, file=sys.stderr)
        return 1
    return 0 if outcome.verdict.is_exact else 1


def _handshake(person: Person, port: int) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET /ws/rooms/{person.room}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Origin: http://127.0.0.1:{port}\r\nCookie: sessionid={person.session}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


@lru_cache(maxsize=256)
def _decode(payload: bytes) -> Mapping[str, object]:
    """Decode a frame once for all who get it; nobody may change what comes of it."""
    content: dict[str, object] = json.loads(payload)
    return content


def _frames(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take the whole frames out of a buffer (RFC 6455 section 5.2).

    A server's frames have no mask; the demo's messages are not split.
    """
    while len(buffer) >= 2:
        size, start = buffer[1] & 0x7F, 2
        if size == 126:
            size, start = int.from_bytes(buffer[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(buffer[2:10], "big"), 10
        if len(buffer) < start + size:
            return
        opcode, payload = buffer[0] & 0x0F, bytes(buffer[start : start + size])
        del buffer[: start + size]
        yield opcode, payload


if __name__ == "__main__":
    sys.exit(main())
