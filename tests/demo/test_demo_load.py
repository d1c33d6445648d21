"""The load on the demo: what it takes for lost, doubled or overtaken."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import demo_load
from benchmarks.demo_load import Member, Tally, judge
from benchmarks.demo_site import CPUTime, Person, Site
from benchmarks.processes import Server


def frame(payload: bytes, opcode: int = 0x1) -> bytes:
    """Return a frame as a server sends it (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


def with_member(check: Callable[[Member, Tally], None]) -> None:
    """Run a check on a member that was welcomed at version 4 of its room."""

    async def scenario() -> None:
        tally = Tally()
        member = Member(Person("ana", "key", "lobby"), 80, tally)
        member.body_received(frame(b'{"type": "welcome", "version": 4}'))
        check(member, tally)

    asyncio.run(scenario())


def deliver(member: Member, tally: Tally, *versions: int) -> None:
    for version in versions:
        tally.sent_at[str(version)] = 0.0
        message = {"nonce": str(version), "version": version}
        event = {"type": "message", "message": message}
        member.body_received(frame(json.dumps(event).encode()))


@pytest.mark.parametrize(
    ("versions", "missing", "doubled", "overtaken"),
    [
        ((5, 6, 7), 0, 0, 0),
        ((5, 7), 1, 0, 0),
        ((5, 6, 6, 7), 0, 1, 0),
        ((5, 7, 6), 0, 0, 1),
        ((), 3, 0, 0),
    ],
    ids=["exact", "missing", "doubled", "overtaken", "nothing"],
)
def test_every_version_must_come_once(
    versions: tuple[int, ...], missing: int, doubled: int, overtaken: int
) -> None:
    def check(member: Member, tally: Tally) -> None:
        tally.sent_in["lobby"] = 3
        deliver(member, tally, *versions)
        verdict = judge([member], tally)

        assert verdict.expected == 3
        assert (verdict.missing, verdict.doubled) == (missing, doubled)
        assert verdict.overtaken == overtaken
        assert verdict.is_exact == (missing == doubled == 0)

    with_member(check)


@pytest.mark.parametrize("size", [5, 125, 126, 65535, 65536])
def test_frames_are_taken_out_whole_however_they_come(size: int) -> None:
    data = frame(b"x" * size) + frame(b"end", opcode=0x9)
    buffer = bytearray(data[:1])
    assert list(demo_load._frames(buffer)) == []
    buffer += data[1:-1]
    assert list(demo_load._frames(buffer)) == [(0x1, b"x" * size)]
    buffer += data[-1:]

    assert list(demo_load._frames(buffer)) == [(0x9, b"end")]


def test_refusal_of_the_demo_is_counted() -> None:
    def check(member: Member, tally: Tally) -> None:
        member.body_received(frame(b'{"type": "error", "detail": "Too fast."}'))

        assert tally.errors == {"Too fast.": 1}

    with_member(check)


def test_cpu_time_is_told_per_message_and_process() -> None:
    used = CPUTime(3.0, 0.5, 2.0).since(CPUTime(1.0, 0.25, 1.5))

    assert used == CPUTime(2.0, 0.25, 0.5)
    assert (
        used.line(messages=100)
        == "CPU         20.00 ms a message, of Redis 2.50 ms, of this load 5.00 ms"
    )


@pytest.mark.e2e
def test_load_knows_what_it_uses_itself_and_no_redis_where_there_is_none() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        site = Site(Server(process, 0, False, Path("none")), [])
        cpu = CPUTime.now(site)

    assert cpu.load > 0
    assert cpu.redis == 0
