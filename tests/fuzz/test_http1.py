"""HTTP/1.1 under attack: streams of right and wrong requests, and all applications."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11
import pytest

from tests.fuzz.http1_bytes import TOKENS, build_handshake, build_requests
from tests.fuzz.http1_check import find_smuggled, parse_requests, parse_responses
from tests.fuzz.mutation import mutate, split
from tests.fuzz.server import Case

if TYPE_CHECKING:
    import asyncio
    import random

    from tests.fuzz.conftest import RunAttack

CHUNKED = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n"


def attack(loop: asyncio.AbstractEventLoop, rng: random.Random) -> list[str]:
    data = build_requests(rng)
    if rng.random() < 0.15:
        data += build_handshake(rng)
    return send(loop, rng, mutate(rng, data, TOKENS), is_tame=rng.random() < 0.3)


def send(
    loop: asyncio.AbstractEventLoop, rng: random.Random, data: bytes, *, is_tame: bool
) -> list[str]:
    case = Case(loop, rng, is_tame=is_tame)
    case.run(split(rng, data))
    faults = case.faults + find_smuggled(data, case.factory.exchanges)
    try:
        parse_responses(bytes(case.transport.received), case.factory.heads)
    except (h11.RemoteProtocolError, AssertionError) as error:
        faults.append(f"no client reads the responses: {error}")
    return faults


def test_no_stream_of_requests_breaks_the_server(run_attack: RunAttack) -> None:
    run_attack(attack, 800)


@pytest.mark.parametrize("token", TOKENS, ids=repr)
def test_no_known_trick_hides_a_request(token: bytes, run_attack: RunAttack) -> None:
    """Each piece at any place of two requests, the first of them with content."""
    data = CHUNKED + b"5\r\nhello\r\n0\r\n\r\n" + NEXT

    places = [(position, position) for position in range(len(data) + 1)]
    places.append((data.index(b"5"), data.index(b"5") + 1))

    def insert(loop: asyncio.AbstractEventLoop, rng: random.Random) -> list[str]:
        start, end = places.pop() if places else (0, 0)
        return send(loop, rng, data[:start] + token + data[end:], is_tame=True)

    run_attack(insert, len(places))


def test_check_reads_requests_as_they_were_sent() -> None:
    data = b"\r\n" + CHUNKED + b"5\r\nhello\r\n0\r\n\r\n" + NEXT

    assert [request[:2] for request in parse_requests(data)] == [
        (b"POST", b"hello"),
        (b"GET", b""),
    ]


def test_check_ends_where_h11_refuses() -> None:
    data = CHUNKED + b"5\nhello\r\n0\r\n\r\n" + NEXT

    assert [request.method for request in parse_requests(data)] == [b"POST"]


def test_check_tells_responses_that_nobody_asked_for() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

    with pytest.raises(AssertionError, match="not asked for"):
        parse_responses(answer * 2, [None])
