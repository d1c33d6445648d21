"""Which connections a worker naps for, so that others accept some as well."""

from __future__ import annotations

import pytest

from djserve.net.courtesy import Courtesy


class Worker:
    """One whose connections come and go as a test says, and whose clock it sets."""

    def __init__(self) -> None:
        self.held = 0
        self.now = 100.0
        self.naps = 0
        self.courtesy = Courtesy(lambda: self.held, lambda: self.now, self._nap)

    def _nap(self, seconds: float) -> None:
        # Long enough for another to wake up, and too short to be felt.
        assert 0 < seconds < 0.001
        self.naps += 1

    def accept(self, count: int = 1, *, stays: bool = True) -> int:
        """Accept connections; return how many naps that took."""
        before = self.naps
        for _ in range(count):
            self.courtesy.connection_accepted()
            self.held += stays
        return self.naps - before


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_connections_that_come_together_and_stay_are_left_to_others(
    worker: Worker,
) -> None:
    assert worker.accept(16) == 15


def test_share_without_a_nap_grows_with_what_a_worker_has(worker: Worker) -> None:
    naps = worker.accept(10_000)

    assert 60 < naps < 200
    worker.now += 0.1
    # A sixteenth at the most.
    assert worker.accept(626) >= 1


def test_connections_that_end_cost_no_nap(worker: Worker) -> None:
    worker.accept(20)

    assert worker.accept(1000, stays=False) <= 1


def test_connection_now_and_then_costs_no_nap(worker: Worker) -> None:
    for _ in range(50):
        worker.now += 0.3
        assert worker.accept() == 0


def test_burst_after_others_have_ended_is_shared_again(worker: Worker) -> None:
    worker.accept(200)
    worker.held = 0
    worker.now += 0.3

    assert worker.accept(16) == 15


def test_nap_that_the_system_refuses_loses_no_connection() -> None:
    held = iter((0, 1))

    def refuse(seconds: float) -> None:
        raise OSError(22, "Invalid argument")

    courtesy = Courtesy(lambda: next(held), lambda: 100.0, refuse)

    courtesy.connection_accepted()
    courtesy.connection_accepted()

    assert next(held, None) is None
