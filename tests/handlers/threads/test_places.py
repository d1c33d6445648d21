"""Places of databases: order, shares, and jobs that wait for each other's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from djserve.handlers.threads.fairness import Use
from djserve.handlers.threads.places import Ledger, PlaceError
from tests.support.waiting import PATIENCE


class Thread:
    """A thread at work."""

    group = "requests"
    lease = None
    use: Use | None = None
    turn = 1
    places = 0

    def __init__(self, view: str) -> None:
        self.view = view


class Connection:
    """A thread's connection: a job of some view that has begun."""

    def __init__(self, view: str, *, is_in_use: bool = False) -> None:
        self.worker: Any = Thread(view)
        self.used_at = 0
        self.in_use = is_in_use
        self.gift: object | None = None
        self.is_closed = False
        self.looks = 0

    def is_idle(self) -> bool:
        """Called at each look for a connection that could be given back."""
        self.looks += 1
        return not self.in_use

    def is_in_use(self) -> bool:
        return self.in_use

    def accepts(self) -> bool:
        return self.is_closed

    def detach(self) -> Callable[[], object] | None:
        return lambda: None

    def part(self) -> object | None:
        return self.gift

    def forget(self) -> None:
        self.gift = None


class Pool:
    """A pool whose threads are all at work."""

    on_return: Any = None

    def __init__(self, share: float) -> None:
        self.share = share

    def is_busy(self, worker: object) -> bool:
        return True

    def interrupt(self, worker: object, job: object) -> bool:
        return False

    def hasten(self) -> None:
        """Hold none back."""


def make(share: float = 1.0, timeout: float = 60.0) -> Ledger:
    return Ledger(Pool(share), timeout)


def do_nothing() -> None:
    """Have no connection to give back."""


def test_one_view_gets_its_share_and_another_what_is_left() -> None:
    places = make(share=0.8, timeout=0.05).places_of("default", 4)
    for _ in range(3):
        places.take(Connection("slow"), do_nothing)

    with pytest.raises(PlaceError):
        places.take(Connection("slow"), do_nothing)
    places.take(Connection("fast"), do_nothing)

    assert len(places.active()) == 4
    assert not places.is_wanted


def test_connection_in_a_transaction_never_waits_for_itself() -> None:
    places = make(share=0.5, timeout=0.05).places_of("default", 2)
    first, second = Connection("slow"), Connection("slow")
    places.take(first, do_nothing)
    with pytest.raises(PlaceError):
        places.take(second, do_nothing)
    first.in_use = True
    first.worker.turn = 2

    places.take(first, do_nothing)

    assert places.active() == [first]


def test_connection_that_an_earlier_job_has_left_is_taken_away() -> None:
    places = make().places_of("default", 1)
    left = Connection("earlier")
    places.take(left, do_nothing)
    left.worker.turn = 2

    places.take(Connection("later"), do_nothing)

    assert not places.has(left)


def test_jobs_in_a_circle_of_three_databases_all_come_to_their_end() -> None:
    ledger = make()
    databases = [ledger.places_of(name, 1) for name in "abc"]
    barrier = threading.Barrier(3)
    done: list[int] = []

    def use(number: int) -> None:
        jobs = [Connection(f"view {number}", is_in_use=True) for _ in range(2)]
        jobs[1].worker = jobs[0].worker
        first, second = databases[number], databases[(number + 1) % 3]
        first.take(jobs[0], do_nothing)
        barrier.wait(60)
        second.take(jobs[1], do_nothing)
        for job, places in zip(jobs, (first, second), strict=True):
            places.give(job)
        done.append(number)

    threads = [threading.Thread(target=use, args=[n], daemon=True) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert sorted(done) == [0, 1, 2]
    assert not ledger.is_wanted


def test_job_that_waits_for_one_at_work_is_not_stuck() -> None:
    ledger = make(timeout=0.2)
    first, second = ledger.places_of("a", 1), ledger.places_of("b", 1)
    at_work, waiting = Connection("x"), Connection("y")
    first.take(at_work, do_nothing)
    second.take(waiting, do_nothing)
    again = Connection("y")
    again.worker = waiting.worker

    with pytest.raises(PlaceError):
        first.take(again, do_nothing)


@pytest.mark.parametrize(
    ("accepts", "group"),
    [(True, "requests"), (False, "requests"), (True, "consumers")],
)
def test_connection_is_handed_on_to_one_of_its_group_that_has_none(
    accepts: bool, group: str
) -> None:
    places = make().places_of("default", 1)
    left, taking = Connection("earlier"), Connection("later")
    left.gift = "a connection"
    taking.is_closed, taking.worker.group = accepts, group
    places.take(left, do_nothing)
    left.worker.turn = 2

    gift = places.take(taking, do_nothing)

    is_handed_on = accepts and group == "requests"
    assert gift == ("a connection" if is_handed_on else None)
    assert left.gift == (None if is_handed_on else "a connection")
    assert places.active() == [taking]
    assert (left.worker.places, taking.worker.places) == (0, 1)


def test_place_of_which_no_other_has_use_is_kept() -> None:
    places = make(share=0.5).places_of("default", 2)
    first, second = Connection("slow"), Connection("slow")
    places.take(first, do_nothing)

    assert not places.has_use_for(first)
    assert not places.has_use_for(second)
    assert not places.hand_on(first, "a connection")
    assert places.has(first)
    assert first.worker.places == 1


def test_worker_knows_how_its_job_came_by_a_connection() -> None:
    places = make(timeout=0.05).places_of("default", 1)
    first, second = Connection("one"), Connection("two")
    places.take(first, do_nothing)
    with pytest.raises(PlaceError):
        places.take(second, do_nothing)

    assert first.worker.use.alias == "default"
    assert first.worker.use.limit == 1
    assert first.worker.use.waited == 0
    assert second.worker.use.waited >= 0.05


def test_many_that_wait_have_one_look_for_all() -> None:
    ledger = make(timeout=1.0)
    places = ledger.places_of("default", 1)
    at_work = Connection("slow", is_in_use=True)
    places.take(at_work, do_nothing)
    failed: list[int] = []

    def wait(number: int) -> None:
        try:
            places.take(Connection("slow"), do_nothing)
        except PlaceError:
            failed.append(number)

    threads = [threading.Thread(target=wait, args=[number]) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert len(failed) == 40
    # One of each for its own sake, and one every PACE seconds; 800 if all looked.
    assert at_work.looks < 200


def test_next_that_waits_looks_when_the_first_has_gone() -> None:
    ledger = make(timeout=60)
    places = ledger.places_of("default", 2)
    first, second = Connection("x", is_in_use=True), Connection("y", is_in_use=True)
    for connection in (first, second):
        places.take(connection, do_nothing)
    done: list[str] = []

    def wait(name: str) -> None:
        connection = Connection(name)
        places.take(connection, do_nothing)
        done.append(name)

    threads = [threading.Thread(target=wait, args=[name]) for name in "ab"]
    for thread in threads:
        thread.start()
        wanted = 1 + threads.index(thread)
        while len(ledger.waiting) < wanted:
            thread.join(0.001)
    places.give(first)
    threads[0].join(PATIENCE)
    # Told by no one: only a look finds out.
    second.in_use = False
    second.worker.turn += 1
    threads[1].join(PATIENCE)

    assert done == ["a", "b"]
