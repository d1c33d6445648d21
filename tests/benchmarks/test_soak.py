"""What the soak holds against a server, and how its HTTP/2 client takes GOAWAY."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from hyperframe.frame import GoAwayFrame, PingFrame, SettingsFrame

from benchmarks.soak import JUDGE, Outcome, find_problems
from benchmarks.soak_http2 import Connection, NotProcessed
from benchmarks.soak_tally import Tally


@pytest.fixture
def tally() -> Tally:
    """The counts of a soak in which nothing has failed."""
    tally = Tally()
    for protocol in ("HTTP/1.1", "HTTP/2", "WebSocket message"):
        tally.answered(protocol)
    tally.events[f"{JUDGE}, succeeded"] = 1
    return tally


def test_load_without_failures_meets_the_demands(tally: Tally) -> None:
    tally.closed(1012, 50000)

    assert find_problems(tally, Outcome(), 0) == []


def test_failure_counts_unless_its_worker_was_killed(tally: Tally) -> None:
    tally.failed("HTTP/1.1", ConnectionResetError("reset"), 50000)
    tally.closed(1006, 50001)
    outcome = Outcome(casualties={50000})

    assert find_problems(tally, outcome, 0) == [
        "WebSocket from port 50001: closed with 1006"
    ]
    assert tally.resets == 1


def test_failures_of_the_load_tool_and_the_exit_code_count(tally: Tally) -> None:
    tally.events[f"{JUDGE}, failed"] = 3
    problems = find_problems(tally, Outcome(), 1)

    assert problems == ["h2load counts 3 failures", "The server's exit code is 1"]


def test_protocol_without_any_load_is_a_problem(tally: Tally) -> None:
    del tally.requests["HTTP/2"]

    assert find_problems(tally, Outcome(), 0) == ["HTTP/2: there was no load"]


def test_load_tool_that_was_never_served_is_a_problem(tally: Tally) -> None:
    tally.events[f"{JUDGE}, succeeded"] = 0

    assert find_problems(tally, Outcome(), 0) == ["h2load: there was no load"]


class Pipe:
    """What a connection writes to."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


def test_stream_beyond_goaway_may_be_sent_again_and_others_go_on() -> None:
    async def converse() -> list[asyncio.Future[str]]:
        connection = Connection()
        connection.connection_made(cast("Any", Pipe()))
        answers = [connection.ask("/") for _ in range(3)]
        ping = PingFrame(0, opaque_data=b"12345678").serialize()
        goaway = GoAwayFrame(0, last_stream_id=3).serialize()
        data = SettingsFrame(0).serialize() + goaway + ping
        for index in range(len(data)):
            connection.data_received(data[index : index + 1])
        assert not connection.takes_requests
        return answers

    answers = asyncio.run(converse())

    assert [answer.done() for answer in answers] == [False, False, True]
    assert isinstance(answers[2].exception(), NotProcessed)


def test_lost_connection_fails_every_stream() -> None:
    async def lose() -> BaseException | None:
        connection = Connection()
        connection.connection_made(cast("Any", Pipe()))
        answer = connection.ask("/")
        connection.connection_lost(None)
        return answer.exception()

    assert isinstance(asyncio.run(lose()), ConnectionError)
