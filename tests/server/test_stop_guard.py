"""A second stop signal, and a loop that does not take it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from djserve.server.stop_guard import StopGuard

GUARD = 60.0


class Ended:
    """What ends the process, and waits for being called."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.is_called = threading.Event()

    def __call__(self, code: int) -> None:
        self.codes.append(code)
        self.is_called.set()


@pytest.fixture
def usual_signals() -> Iterator[list[int]]:
    """The loop's own handler of SIGTERM, and what it is called with."""
    seen: list[int] = []
    old = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    yield seen
    signal.signal(signal.SIGTERM, old)


def test_second_signal_that_is_not_taken_ends_the_process(
    usual_signals: list[int],
) -> None:
    ended = Ended()
    StopGuard(ended, 0.0).watch([signal.SIGTERM])
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert ended.is_called.wait(GUARD)
    assert ended.codes == [128 + signal.SIGTERM]
    # The loop has heard of both.
    assert usual_signals == [signal.SIGTERM, signal.SIGTERM]


@pytest.mark.parametrize("way", ["taken", "over"])
def test_loop_that_takes_it_goes_its_own_way(
    usual_signals: list[int], way: str
) -> None:
    ended = Ended()
    stops: list[str] = []
    guard = StopGuard(ended, 0.2)
    take = guard.around(lambda: stops.append("stop"))
    guard.watch([signal.SIGTERM])
    before = set(threading.enumerate())
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    watchers = set(threading.enumerate()) - before
    take() if way == "taken" else guard.close()
    for thread in watchers:
        thread.join(GUARD)

    assert len(watchers) == 1
    assert ended.codes == []
    assert stops == ["stop"] * (way == "taken")
