"""Threads that compute are told from those that only wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from djserve.handlers.threads import census
from djserve.handlers.threads.census import (
    IDLE_SHARE,
    REST,
    STANDSTILL,
    judge,
    open_clock,
    read_clock,
)


@dataclass
class Member:
    clock: int | None = None
    is_waiting: bool = False
    cpu_seen: float = 0.0
    moved_at: float = 0.0


class Clocks:
    """What the clocks say: the time, and the CPU time of every member."""

    time, cpu = 100.0, 5.0


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(census, "read_clock", lambda member: clocks.cpu)
    monkeypatch.setattr(census, "monotonic", lambda: clocks.time)
    return clocks


@pytest.fixture
def thread() -> Iterator[threading.Thread]:
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait, args=(60,))
    thread.start()
    yield thread
    gate.set()
    thread.join(60)


@pytest.mark.parametrize(("used", "waits"), [(0.0, True), (0.5, False), (1.0, False)])
def test_short_look_is_enough_while_the_lock_is_free(
    used: float, waits: bool, clocks: Clocks
) -> None:
    member = Member()

    assert judge(member, 5.0 - used, 99.0, 1.0, was_busy=False) is waits
    assert IDLE_SHARE < 0.5


def test_thread_that_wants_the_lock_must_stand_still_for_long(clocks: Clocks) -> None:
    member = Member()
    verdicts = []
    for _ in range(3):
        verdicts.append(judge(member, 5.0, 99.0, 0.002, was_busy=True))
        clocks.time += 0.7 * STANDSTILL

    assert verdicts == [False, False, True]


def test_thread_that_gets_a_turn_computes(clocks: Clocks) -> None:
    member = Member()
    verdicts = []
    for _ in range(5):
        verdicts.append(judge(member, clocks.cpu, 99.0, 0.002, was_busy=True))
        clocks.time += 0.7 * STANDSTILL
        clocks.cpu += 0.005

    assert verdicts == [False] * 5


@pytest.mark.parametrize(("used", "waits"), [(0.5 * REST, True), (2 * REST, False)])
def test_thread_that_waited_computes_once_it_uses_cpu(
    used: float, waits: bool, clocks: Clocks
) -> None:
    member = Member(is_waiting=True, cpu_seen=5.0 - used)

    assert judge(member, None, 99.0, 0.002, was_busy=True) is waits


@pytest.mark.parametrize(
    ("begun", "was_busy", "waits"),
    [(99.0, False, True), (99.99, False, False), (99.0, True, False)],
)
def test_without_clocks_the_time_decides(
    begun: float,
    was_busy: bool,
    waits: bool,
    clocks: Clocks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(census, "read_clock", lambda member: None)

    assert judge(Member(), None, begun, 0.002, was_busy=was_busy) is waits


def test_clock_of_a_thread_counts_what_it_computes(thread: threading.Thread) -> None:
    assert thread.ident is not None
    if (clock := open_clock(thread.ident)) is None:
        pytest.skip("There are no clocks of threads here")
    before, now = None, read_clock(Member(clock))
    while before != now:
        # It may still be on its way to where it waits.
        time.sleep(0.01)
        before, now = now, read_clock(Member(clock))
    mine = Member(open_clock(threading.get_ident()))
    begun = read_clock(mine)
    sum(range(200_000))

    assert read_clock(Member(clock)) == before
    ended = read_clock(mine)
    assert begun is not None and ended is not None and ended > begun


def test_thread_that_has_ended_has_no_clock() -> None:
    assert read_clock(Member(None)) is None
    clocks: list[int | None] = []
    thread = threading.Thread(
        target=lambda: clocks.append(open_clock(threading.get_ident()))
    )
    thread.start()
    thread.join(60)
    # Once the kernel has done away with it as well.
    deadline = time.monotonic() + 60
    while clocks[0] is not None and read_clock(Member(clocks[0])) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
