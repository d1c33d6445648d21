"""The number of threads worth running, and which of them only wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from djserve.cpus import CPUs
from djserve.handlers.threads import concurrency
from djserve.handlers.threads.concurrency import (
    GRACE,
    IDLE_SHARE,
    REST,
    STANDSTILL,
    ConcurrencyLimit,
    LockProbe,
    has_interpreter_lock,
    judge,
    open_clock,
    read_clock,
)
from tests.support.waiting import PATIENCE


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
    monkeypatch.setattr(concurrency, "read_clock", lambda member: clocks.cpu)
    monkeypatch.setattr(concurrency, "monotonic", lambda: clocks.time)
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
    monkeypatch.setattr(concurrency, "read_clock", lambda member: None)

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


def note(adapted: ConcurrencyLimit, *looks: bool) -> int:
    for was_held in looks:
        adapted.take_note(was_held)
    return adapted.value


def test_all_threads_may_run_at_first() -> None:
    assert ConcurrencyLimit(12).value == 12


def test_width_falls_to_one_while_the_lock_is_always_held() -> None:
    adapted = ConcurrencyLimit(12)

    values = [note(adapted, *[True] * 20) for _ in range(12)]

    assert values == sorted(values, reverse=True)
    assert (values[0] < 12, values[-1]) == (True, 1)


def test_width_rises_to_the_most_when_the_lock_is_free() -> None:
    adapted = ConcurrencyLimit(12)
    note(adapted, *[True] * 200)

    assert note(adapted, False) == 1
    assert note(adapted, *[False] * 40) == 12


def test_width_stays_where_the_lock_is_held_now_and_then() -> None:
    adapted = ConcurrencyLimit(12)
    note(adapted, *[True] * 12)
    before = adapted.value

    assert note(adapted, *[True, True, True, False] * 20) == before


def test_one_thread_is_never_too_many() -> None:
    assert note(ConcurrencyLimit(1), *[True] * 50) == 1


@pytest.fixture
def probe() -> LockProbe:
    probe = LockProbe()
    if not probe.can_tell:
        pytest.skip("this system has no figures on threads, or Python no lock")
    return probe


@contextmanager
def beside(work: Callable[[threading.Event], object]) -> Iterator[None]:
    """Let a thread work during the block; it ends with the event that it is given."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def look_until(probe: LockProbe, was_held: bool) -> None:
    """Nap until 20 looks have found the lock so; on a busy machine some do not."""
    deadline = time.monotonic() + PATIENCE
    left = 20
    while left:
        assert time.monotonic() < deadline
        left -= probe.nap(0.001) is was_held


def test_lock_that_a_thread_keeps_is_seen(probe: LockProbe) -> None:
    def compute(stop: threading.Event) -> None:
        while not stop.is_set():
            sum(range(1000))

    with beside(compute):
        look_until(probe, was_held=True)
    probe.close()


def test_lock_of_threads_that_wait_is_seen_to_be_free(probe: LockProbe) -> None:
    with beside(threading.Event.wait):
        look_until(probe, was_held=False)
    probe.close()


@pytest.mark.parametrize(
    ("late", "without_cpu", "was_held"),
    [
        (0.0, 0.0, False),
        (0.9 * GRACE, 0.0, False),
        (1.1 * GRACE, 0.0, True),
        (0.005, 0.0, True),
        (0.005, 0.005, False),
        (0.005, 0.002, True),
    ],
)
def test_lock_was_held_where_nothing_else_made_the_nap_long(
    late: float, without_cpu: float, was_held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, waits = iter((10.0, 10.001 + late)), iter((3.0, 3.0 + without_cpu))
    monkeypatch.setattr(LockProbe, "_waited_for_cpu", lambda probe: next(waits))
    probe = LockProbe(lambda: next(clock), lambda: 0.0)

    assert probe.nap(0.001) is was_held
    assert probe.was_held is was_held
    probe.close()


@pytest.mark.parametrize(
    ("full", "share", "is_full"),
    [(0.8, 0.75, False), (0.8, 0.85, True), (None, 1.0, False)],
)
def test_cpus_count_where_the_pool_says_so(
    full: float | None, share: float, is_full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency, "count_cpus", lambda: 2)
    clock, used = iter((10.0, 10.001)), iter((3.0, 3.0 + 0.002 * share))
    probe = LockProbe(lambda: next(clock), lambda: next(used), full)

    assert probe.nap(0.001) is is_full
    probe.close()


def test_nothing_can_be_told_without_the_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(concurrency, "SCHEDULE", "/nonexistent")
    probe = LockProbe()
    probe.nap(0.0)
    probe.close()

    assert not probe.can_tell


@pytest.fixture
def no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for a free-threaded build of Python on four CPUs."""
    monkeypatch.setattr("sys._is_gil_enabled", lambda: False, raising=False)
    monkeypatch.setattr(concurrency, "count_cpus", lambda: 4)
    monkeypatch.setattr(concurrency, "measure_cpus", lambda: CPUs(4.0, "a test"))


@pytest.mark.usefixtures("no_lock")
@pytest.mark.parametrize(("cpus", "is_full"), [(1.0, False), (3.1, False), (3.5, True)])
def test_without_the_lock_the_cpus_alone_are_looked_at(
    cpus: float, is_full: bool
) -> None:
    assert not has_interpreter_lock()
    # A late wake-up, as where the lock was waited for.
    clock, used = iter((10.0, 10.005)), iter((3.0, 3.0 + 0.005 * cpus))
    probe = LockProbe(lambda: next(clock), lambda: next(used))

    assert probe.can_tell
    assert probe.nap(0.001) is is_full
    probe.close()


@pytest.mark.usefixtures("no_lock")
def test_without_the_lock_each_cpu_keeps_a_thread() -> None:
    assert note(ConcurrencyLimit(12), *[True] * 200) == 4
    assert note(ConcurrencyLimit(2), *[True] * 200) == 2
