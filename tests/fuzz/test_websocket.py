"""WebSockets under attack: handshakes and frames of every kind, also compressed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11

from tests.fuzz.http1_bytes import TOKENS as HEAD_TOKENS
from tests.fuzz.http1_bytes import build_handshake
from tests.fuzz.http1_check import parse_responses
from tests.fuzz.mutation import mutate, split
from tests.fuzz.server import Case
from tests.fuzz.websocket_bytes import TOKENS, build_frames
from tests.fuzz.websocket_check import check_frames, find_forged

if TYPE_CHECKING:
    import asyncio
    import random

    from tests.fuzz.conftest import RunAttack


def attack(loop: asyncio.AbstractEventLoop, rng: random.Random) -> list[str]:
    head = build_handshake(rng)
    if is_strange := rng.random() < 0.1:
        head = mutate(rng, head, HEAD_TOKENS)
    frames = build_frames(rng, is_deflated=b"permessage-deflate" in head)
    if rng.random() < 0.5:
        frames = mutate(rng, frames, TOKENS)
    case = Case(loop, rng, is_tame=rng.random() < 0.3)
    case.run(split(rng, head + frames))
    received = bytes(case.transport.received)
    try:
        answers, _ = parse_responses(received, case.factory.heads)
    except (h11.RemoteProtocolError, AssertionError) as error:
        return [*case.faults, f"no client reads the response: {error}"]
    if answers and answers[-1].status == 101:
        accepted, _, rest = received.partition(b"\r\n\r\n")
        is_deflated = b"sec-websocket-extensions" in accepted
        case.faults += check_frames(rest, is_deflated=is_deflated)
        if not is_strange:
            messages = case.applications.messages
            case.faults += find_forged(frames, messages, is_deflated=is_deflated)
    return case.faults


def test_no_stream_of_frames_breaks_the_server(run_attack: RunAttack) -> None:
    run_attack(attack, 400)


def test_check_tells_a_message_that_was_not_sent() -> None:
    data = b"\x81\x82\0\0\0\0hi"

    assert find_forged(data, ["hi"], is_deflated=False) == []
    assert find_forged(data, ["ho"], is_deflated=False)
    assert find_forged(data, ["hi", "hi"], is_deflated=False)


def test_check_tells_frames_after_close() -> None:
    assert check_frames(b"\x81\1a\x88\2\3\xe8", is_deflated=False) == []
    assert check_frames(b"\x88\2\3\xe8\x81\1a", is_deflated=False)
    assert check_frames(b"\x81\x81\0\0\0\0a", is_deflated=False)
