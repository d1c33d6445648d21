"""HTTP/2 under attack: a client of raw frames, and one that h2 keeps honest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuzz.http2_bytes import TOKENS, RawClient
from tests.fuzz.http2_check import FrameCheck
from tests.fuzz.http2_client import HonestClient
from tests.fuzz.mutation import mutate, split
from tests.fuzz.server import Case

if TYPE_CHECKING:
    import asyncio
    import random

    from tests.fuzz.conftest import RunAttack


def attack(loop: asyncio.AbstractEventLoop, rng: random.Random) -> list[str]:
    data = RawClient(rng).build()
    if rng.random() < 0.4:
        data = mutate(rng, data, TOKENS)
    case = Case(loop, rng, alpn="h2", is_tame=rng.random() < 0.3)
    case.run(split(rng, data))
    check = FrameCheck()
    check.read(bytes(case.transport.received))
    return case.faults + check.faults


def converse(loop: asyncio.AbstractEventLoop, rng: random.Random) -> list[str]:
    case = Case(loop, rng, alpn="h2", is_tame=rng.random() < 0.3)
    client = HonestClient(case)
    case.run(client.speak())
    client.listen()
    return case.faults + client.faults


def test_no_stream_of_frames_breaks_the_server(run_attack: RunAttack) -> None:
    run_attack(attack, 800)


def test_honest_client_is_never_wronged(run_attack: RunAttack) -> None:
    run_attack(converse, 300)


def test_check_tells_content_after_the_end() -> None:
    settings, head = b"\0\0\0\4\0\0\0\0\0", b"\0\0\1\1\5\0\0\0\1\x88"
    check = FrameCheck()

    check.read(settings + head)
    assert check.faults == []
    check.read(b"\0\0\1\0\1\0\0\0\1x")
    assert check.faults
