"""The number of threads worth running, and the look that it rests on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from djserve.handlers.threads import concurrency
from djserve.handlers.threads.concurrency import (
    GRACE,
    ConcurrencyLimit,
    LockProbe,
    has_interpreter_lock,
)
from tests.support.waiting import PATIENCE


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


@pytest.mark.parametrize(("share", "is_full"), [(0.75, False), (0.85, True)])
def test_cpus_that_this_process_fills_are_seen(
    share: float, is_full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency, "count_cpus", lambda: 2)
    clock, used = iter((10.0, 10.001)), iter((3.0, 3.0 + 0.002 * share))
    probe = LockProbe(lambda: next(clock), lambda: next(used))

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
