"""The pool: its bound, its queue, and threads that are held, blocked or spare."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import pytest

from djserve.handlers.threads import pool as pool_module
from djserve.handlers.threads.concurrency import LockProbe
from djserve.handlers.threads.leases import Lease
from djserve.handlers.threads.pool import ThreadPool
from tests.support.logs import own_messages
from tests.support.waiting import PATIENCE

MakePool = Callable[..., ThreadPool]


@pytest.fixture
def make_pool() -> Iterator[MakePool]:
    pools: list[ThreadPool] = []

    def make(size: int, **options: object) -> ThreadPool:
        pools.append(ThreadPool(size, **options))  # type: ignore[arg-type]
        return pools[-1]

    yield make
    for pool in pools:
        assert pool.close(60)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_no_more_jobs_run_at_a_time_than_the_size_says(make_pool: MakePool) -> None:
    pool = make_pool(2)
    running, most = 0, 0
    lock = threading.Lock()
    pair = threading.Barrier(2)

    def job() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        pair.wait(60)
        with lock:
            running -= 1

    futures = [Lease(pool, held=False).submit(job) for _ in range(20)]
    for future in futures:
        future.result(60)

    assert most == 2
    assert pool.stats().threads == 2


def test_jobs_wait_in_a_queue_that_is_measured(make_pool: MakePool) -> None:
    pool = make_pool(1)
    gate = threading.Event()
    Lease(pool, held=False).submit(gate.wait, 60)
    future = Lease(pool, held=False).submit(time.sleep, 0)
    assert (pool.queued, pool.stats().running) == (1, 1)
    time.sleep(0.02)
    gate.set()
    future.result(60)

    stats = pool.stats()
    assert (stats.queued, stats.waits) == (0, 1)
    assert stats.longest_wait == stats.wait_seconds >= 0.02


def test_thread_that_is_held_but_idle_is_not_waited_for(make_pool: MakePool) -> None:
    pool = make_pool(1)
    leases = [Lease(pool, held=True) for _ in range(5)]
    for lease in leases:
        lease.submit(int).result(60)

    assert pool.stats().parked == 5
    assert pool.stats().queued == 0
    for lease in leases:
        lease.release()
    assert pool.stats().parked == 0


def test_held_thread_gets_its_next_job_in_turn(make_pool: MakePool) -> None:
    pool = make_pool(1)
    lease = Lease(pool, held=True)
    ident = lease.submit(threading.get_ident).result(60)
    gate = threading.Event()
    Lease(pool, held=False).submit(gate.wait, 60)
    future = lease.submit(threading.get_ident)
    assert pool.queued == 1
    gate.set()

    assert future.result(60) == ident
    lease.release()


def test_blocked_threads_let_others_run(make_pool: MakePool) -> None:
    gate = threading.Event()
    asked: list[list[int]] = []

    def count(idents: Iterable[int]) -> int:
        asked.append(list(idents))
        return 2

    pool = make_pool(2, count_blocked=count)
    for _ in range(2):
        Lease(pool, held=False).submit(gate.wait, 60)
    opening = Lease(pool, held=False).submit(gate.set)

    opening.result(60)
    assert len(asked[0]) == 2


def test_bound_is_back_when_nothing_waits(make_pool: MakePool) -> None:
    blocked = 1
    pool = make_pool(1, count_blocked=lambda idents: blocked)
    gate = threading.Event()
    Lease(pool, held=False).submit(gate.wait, 60)
    Lease(pool, held=False).submit(gate.set).result(60)
    wait_for(lambda: pool._capacity == 1 and pool.stats().running == 0)
    blocked = 0
    gate.clear()

    Lease(pool, held=False).submit(gate.wait, 60)
    Lease(pool, held=False).submit(int)
    assert pool.queued == 1
    gate.set()


def test_threads_beyond_the_size_end_when_they_are_not_used(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "SPARE_TIME", 0.0)
    pool = make_pool(1)
    leases = [Lease(pool, held=True) for _ in range(4)]
    for lease in leases:
        lease.submit(int).result(60)
    for lease in leases:
        lease.release()
        time.sleep(0.001)
    Lease(pool, held=False).submit(int).result(60)

    wait_for(lambda: pool.stats().threads <= 2)


def test_closing_ends_all_threads_in_order(make_pool: MakePool) -> None:
    ended: list[int] = []
    pool = make_pool(3, on_thread_end=lambda: ended.append(threading.get_ident()))
    gate = threading.Event()
    futures = [Lease(pool, held=False).submit(gate.wait, 60) for _ in range(3)]
    assert not pool.close(0)
    gate.set()
    for future in futures:
        future.result(60)

    assert pool.close(60)
    assert len(ended) == 3


def test_closed_pool_still_runs_jobs(make_pool: MakePool) -> None:
    pool = make_pool(1)
    assert pool.close(60)

    assert Lease(pool, held=False).submit(str, 7).result(60) == "7"


def narrow(pool: ThreadPool) -> None:
    """Let one job run at a time, as after a while in which all of them computed."""
    for _ in range(300):
        pool._limit.take_note(was_held=True)


def find_held(probe: LockProbe, seconds: float) -> bool:
    time.sleep(0.001)
    return True


def test_job_waits_for_one_that_is_about_to_end(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "SLOW", 3600)
    monkeypatch.setattr(LockProbe, "nap", find_held)
    pool = make_pool(4)
    narrow(pool)
    gate, order = threading.Event(), list[str]()
    first = Lease(pool, held=False).submit(gate.wait, 60)
    second = Lease(pool, held=False).submit(order.append, "second")
    assert (pool.queued, pool.excess) == (1, 0)
    gate.set()
    second.result(60)

    assert first.done()
    assert pool.stats().threads == 1


def test_slow_jobs_hold_up_no_others(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LockProbe, "nap", find_held)
    pool = make_pool(4)
    narrow(pool)
    gate = threading.Event()
    for _ in range(3):
        Lease(pool, held=False).submit(gate.wait, 60)

    Lease(pool, held=False).submit(gate.set).result(60)
    assert pool.stats().threads == 4


def test_one_thread_that_computes_is_looked_at_seldom(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [True, True, False, False]
    paces: list[float] = []
    gate = threading.Event()

    def nap(probe: LockProbe, seconds: float) -> bool:
        if threading.current_thread() is not pool._watcher:
            # A pool that has just been closed may look once more.
            return False
        paces.append(seconds / pool_module.PACE)
        probe.was_held = found[len(paces) - 1]
        if len(paces) == len(found):
            gate.set()
            monkeypatch.undo()
        return probe.was_held

    monkeypatch.setattr(pool_module, "SLOW", 3600)
    monkeypatch.setattr(LockProbe, "nap", nap)
    pool = make_pool(4)
    narrow(pool)
    Lease(pool, held=False).submit(gate.wait, 60)
    Lease(pool, held=False).submit(int).result(60)

    assert paces == [1, 4, 4, 1]


def test_queue_that_moves_is_looked_at_seldom_beside_one_thread(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    paces: list[float] = []
    gates = [threading.Event() for _ in range(3)]

    def nap(probe: LockProbe, seconds: float) -> bool:
        if threading.current_thread() is not pool._watcher:
            # A pool that has just been closed may look once more.
            return False
        paces.append(seconds / pool_module.PACE)
        if len(paces) == 1:
            gates[0].set()
            wait_for(lambda: pool.stats().waits == 1)
        if len(paces) == 3:
            for gate in gates:
                gate.set()
            monkeypatch.undo()
        return False

    monkeypatch.setattr(pool_module, "SLOW", 3600)
    monkeypatch.setattr(LockProbe, "nap", nap)
    pool = make_pool(4)
    narrow(pool)
    futures = [Lease(pool, held=False).submit(gate.wait, 60) for gate in gates]
    for future in futures:
        future.result(60)

    assert paces == [1, 4, 1]


def test_blocked_threads_are_asked_about_seldom(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, questions = 0, 0

    def nap(probe: LockProbe, seconds: float) -> bool:
        nonlocal looks
        looks += 1
        return find_held(probe, seconds)

    def count(idents: Iterable[int]) -> int:
        nonlocal questions
        questions += 1
        return 0

    monkeypatch.setattr(pool_module, "WATCH_INTERVAL", 0.0)
    monkeypatch.setattr(pool_module, "INQUIRY_PAUSE", 3600)
    monkeypatch.setattr(LockProbe, "nap", nap)
    pool = make_pool(1, count_blocked=count)
    gate = threading.Event()
    Lease(pool, held=False).submit(gate.wait, 60)
    queued = Lease(pool, held=False).submit(int)
    wait_for(lambda: looks > 20)
    gate.set()
    queued.result(60)

    assert questions == 1


def test_jobs_that_wait_widen_the_pool_again(make_pool: MakePool) -> None:
    pool = make_pool(4)
    narrow(pool)
    barrier = threading.Barrier(4)
    futures = [Lease(pool, held=False).submit(barrier.wait, 60) for _ in range(4)]

    assert sorted(future.result(60) for future in futures) == [0, 1, 2, 3]


def test_thread_goes_on_with_the_queue_without_sleeping(make_pool: MakePool) -> None:
    pool = make_pool(1)
    gate = threading.Event()
    first = Lease(pool, held=False).submit(gate.wait, 60)
    futures = [Lease(pool, held=False).submit(threading.get_ident) for _ in range(20)]
    gate.set()

    assert first.result(60)
    assert len({future.result(60) for future in futures}) == 1


def test_held_lease_in_the_queue_is_served_by_its_own_thread(
    make_pool: MakePool,
) -> None:
    pool = make_pool(1)
    held = Lease(pool, held=True)
    ident = held.submit(threading.get_ident).result(60)
    gate = threading.Event()
    other = Lease(pool, held=False).submit(threading.get_ident)
    blocker = Lease(pool, held=False).submit(gate.wait, 60)
    again = held.submit(threading.get_ident)
    gate.set()

    assert other.result(60) != ident
    assert blocker.result(60)
    assert again.result(60) == ident
    held.release()


@pytest.mark.parametrize("is_early", [True, False])
def test_thread_with_a_connection_that_others_wait_for_runs_beyond_the_bounds(
    make_pool: MakePool, is_early: bool
) -> None:
    pool = make_pool(1)
    held = Lease(pool, held=True)
    held.submit(int).result(60)
    assert held.worker is not None
    held.worker.places = 1
    gate = threading.Event()
    blocker = Lease(pool, held=False).submit(gate.wait, 60)
    other = Lease(pool, held=False).submit(int)
    if is_early:
        again = held.submit(int)
        assert pool.queued == 2
        pool.on_return = int
        pool.hasten()
    else:
        pool.on_return = int
        again = held.submit(int)

    again.result(60)
    assert not other.done()
    gate.set()
    assert blocker.result(60)
    other.result(60)
    held.release()


def test_watcher_ends_with_the_pool(make_pool: MakePool) -> None:
    pool = make_pool(1)
    gate = threading.Event()
    Lease(pool, held=False).submit(gate.wait, 60)
    queued = Lease(pool, held=False).submit(int)
    gate.set()
    queued.result(60)
    watcher = pool._watcher
    assert watcher is not None
    assert pool.close(60)
    watcher.join(60)

    assert not watcher.is_alive()


def test_threads_that_only_wait_let_others_run_up_to_the_ceiling(
    make_pool: MakePool,
) -> None:
    pool = make_pool(2, ceiling=20)
    barrier = threading.Barrier(20)

    futures = [Lease(pool, held=False).submit(barrier.wait, 60) for _ in range(20)]

    assert sorted(future.result(60) for future in futures) == [*range(20)]
    assert pool.stats().threads == 20


def test_one_view_that_only_waits_gets_its_share_of_the_ceiling(
    make_pool: MakePool,
) -> None:
    pool = make_pool(4, ceiling=80, share=0.8)
    barrier = threading.Barrier(64)

    futures = [
        Lease(pool, held=False, view="slow").submit(barrier.wait, 60) for _ in range(64)
    ]

    assert len({future.result(60) for future in futures}) == 64


def test_no_more_than_the_ceiling_run(make_pool: MakePool) -> None:
    pool = make_pool(1, ceiling=4)
    gate = threading.Event()
    futures = [Lease(pool, held=False).submit(gate.wait, 60) for _ in range(10)]
    wait_for(lambda: pool.stats().waiting == 4)

    stats = pool.stats()
    assert (stats.running, stats.computing, stats.queued) == (4, 0, 6)
    assert stats.oldest_wait > 0
    gate.set()
    assert all(future.result(60) for future in futures)
    wait_for(lambda: pool.stats().waiting == pool.stats().running == 0)
    assert pool._capacity == 1


def test_threads_that_compute_let_no_more_run_than_the_size_says(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = threading.Semaphore(0)

    def look(*args: object, **kwargs: object) -> bool:
        looks.release()
        return False

    monkeypatch.setattr(pool_module, "judge", look)
    pool = make_pool(2, ceiling=20)
    gate = threading.Event()
    futures = [Lease(pool, held=False).submit(gate.wait, 60) for _ in range(10)]
    for _ in range(20):
        assert looks.acquire(timeout=60)

    assert pool.stats().running == 2
    gate.set()
    assert all(future.result(60) for future in futures)


def hold_threads(pool: ThreadPool, view: str, count: int) -> threading.Event:
    gate = threading.Event()
    for _ in range(count):
        Lease(pool, held=False, view=view, view_name=view).submit(gate.wait, 60)
    return gate


def test_view_that_has_its_share_leaves_room_for_others(
    make_pool: MakePool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "LONG", 3600.0)
    pool = make_pool(4, share=0.8)
    gate = hold_threads(pool, "slow", 10)

    assert Lease(pool, held=False, view="quick").submit(int).result(60) == 0
    wait_for(lambda: bool(own_messages(caplog)))
    views = pool.stats().views
    gate.set()

    assert (views["slow"].running, views["slow"].queued) == (3, 7)
    (message,) = own_messages(caplog)
    # It is logged as soon as one waits.
    assert re.fullmatch(
        r"The view slow holds 3 of at most 4 threads, and \d+ more of its calls wait: "
        r"other views come first \(THREAD_SHARE\)",
        message,
    )


def test_long_waits_are_logged_once_in_a_while(
    make_pool: MakePool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "LONG", 3600.0)
    pool = make_pool(1)
    gate = hold_threads(pool, "slow", 3)
    # All wait before the first look at how long.
    monkeypatch.setattr(pool_module, "LONG", 0.06)
    wait_for(lambda: bool(own_messages(caplog)))
    time.sleep(0.2)
    gate.set()

    (message,) = own_messages(caplog)
    assert re.fullmatch(
        r"2 calls wait for a thread, the first for \d+\.\d s; "
        r"1 threads are at work \(slow: 1\)",
        message,
    )


def test_lease_that_waits_for_too_long_is_told_so(make_pool: MakePool) -> None:
    pool = make_pool(1, wait_limit=0.05)
    gate = hold_threads(pool, "slow", 1)
    told = threading.Event()
    lease = Lease(pool, held=False)
    lease.on_overdue = told.set
    future = lease.submit(int)
    patient = Lease(pool, held=False).submit(int)

    assert told.wait(60)
    assert pool.queued == 1
    gate.set()
    assert patient.result(60) == 0
    assert not future.done()


def test_groups_share_no_thread(make_pool: MakePool) -> None:
    pool = make_pool(2)
    names = [
        Lease(pool, held=False, group=group).submit(threading.get_ident).result(60)
        for group in ("requests", "consumers", "requests", "consumers")
    ]

    assert names[0] == names[2] != names[1] == names[3]


def test_idle_thread_of_another_group_makes_way(make_pool: MakePool) -> None:
    pool = make_pool(1)
    Lease(pool, held=False).submit(int).result(60)
    Lease(pool, held=False, group="consumers").submit(int).result(60)

    assert pool.stats().threads == 1


def test_lease_whose_job_was_withdrawn_takes_no_turn(make_pool: MakePool) -> None:
    pool = make_pool(1)
    gate = hold_threads(pool, "slow", 1)
    lease = Lease(pool, held=False)
    lease.post(gate.clear)
    assert lease.withdraw(gate.clear)
    last = Lease(pool, held=False).submit(int)
    gate.set()
    last.result(60)

    assert lease.last_worker is None
    assert lease.submit(str, 7).result(60) == "7"


def test_waiting_time_of_a_lease_is_that_in_the_queue(make_pool: MakePool) -> None:
    pool = make_pool(1)
    gate = hold_threads(pool, "slow", 1)
    lease = Lease(pool, held=False)
    before = lease.waiting_time()
    future = lease.submit(int)
    time.sleep(0.02)
    meanwhile = lease.waiting_time()
    gate.set()
    future.result(60)

    assert (before, lease.place) == (0.0, 0)
    assert 0.02 <= meanwhile <= lease.waiting_time() == lease.waited
