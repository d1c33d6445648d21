"""Leases: order, affinity, and what becomes of a thread that is given back."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from djserve.handlers.threads.leases import Lease, run_safely
from djserve.handlers.threads.mailbox import Mailbox
from djserve.handlers.threads.pool import ThreadPool
from djserve.net.forks import ForkGuard
from tests.support.children import exit_code_of, held_elsewhere
from tests.support.waiting import wait_until


def occupy(pool: ThreadPool) -> threading.Event:
    """Keep a thread of the pool busy until the returned event is set."""
    begun, gate = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        gate.wait(60)

    Lease(pool, held=False).post(wait)
    assert begun.wait(60)
    return gate


ENDING = """
import threading
from djserve.handlers.threads.leases import Lease
from djserve.handlers.threads.pool import ThreadPool

may_end = threading.Event()

def send_mail():
    may_end.wait(60)
    print("sent")

def begin():
    threading.Thread(target=send_mail).start()
    begun.set()

def hang():
    hangs.set()
    threading.Event().wait()

begun, hangs = threading.Event(), threading.Event()
pool = ThreadPool(2)
Lease(pool, held=False).post(begin)
Lease(pool, held=False).post(hang)
assert begun.wait(60) and hangs.wait(60)
threading._register_atexit(may_end.set)
"""


@pytest.mark.e2e
def test_end_of_the_process_waits_for_what_a_job_has_begun_and_for_no_job() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=120
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "sent\n", "")


def test_held_lease_runs_all_its_jobs_in_one_thread(pool: ThreadPool) -> None:
    lease = Lease(pool, held=True)

    idents = {lease.submit(threading.get_ident).result(60) for _ in range(5)}

    assert len(idents) == 1
    lease.release()


def test_two_leases_that_are_held_have_different_threads(pool: ThreadPool) -> None:
    first, second = Lease(pool, held=True), Lease(pool, held=True)

    idents = {lease.submit(threading.get_ident).result(60) for lease in (first, second)}

    assert len(idents) == 2
    first.release()
    second.release()


def test_jobs_run_in_the_order_of_their_posting(pool: ThreadPool) -> None:
    lease = Lease(pool, held=False)
    order: list[int] = []
    for number in range(20):
        lease.post(lambda number=number: order.append(number))  # type: ignore[misc]
    lease.submit(int).result(60)

    assert order == list(range(20))


def test_released_lease_prefers_the_thread_that_it_had(pool: ThreadPool) -> None:
    lease, other = Lease(pool, held=True), Lease(pool, held=True)
    ident = lease.submit(threading.get_ident).result(60)
    other.submit(int).result(60)
    lease.release()
    other.release()

    assert lease.submit(threading.get_ident).result(60) == ident


def test_first_action_runs_once_before_the_first_job(pool: ThreadPool) -> None:
    calls: list[str] = []
    lease = Lease(pool, held=True, on_first=lambda: calls.append("first"))
    for _ in range(2):
        lease.submit(calls.append, "job").result(60)
    lease.release()

    assert calls == ["first", "job", "job"]


def test_idle_action_runs_in_the_thread_before_it_is_given_back(
    pool: ThreadPool,
) -> None:
    idents: list[int] = []
    lease = Lease(
        pool, held=False, on_idle=lambda: idents.append(threading.get_ident())
    )

    ident = lease.submit(threading.get_ident).result(60)

    assert idents == [ident]


def test_lease_without_a_job_was_not_used(pool: ThreadPool) -> None:
    lease = Lease(pool, held=True, on_first=int)

    used = [lease.was_used]
    lease.submit(int).result(60)
    lease.release()

    assert [*used, lease.was_used] == [False, True]


def test_withdrawn_job_never_runs(pool: ThreadPool) -> None:
    gates = [occupy(pool), occupy(pool)]
    ran: list[str] = []
    lease = Lease(pool, held=False)

    def job() -> None:
        ran.append("job")

    lease.post(job)
    assert lease.withdraw(job)
    for gate in gates:
        gate.set()
    lease.submit(int).result(60)

    assert ran == []


def test_job_that_has_run_cannot_be_withdrawn(pool: ThreadPool) -> None:
    lease = Lease(pool, held=False)

    def job() -> None:
        pass

    lease.post(job)
    lease.submit(int).result(60)

    assert not lease.withdraw(job)


def test_submitted_call_that_raises_fails_its_future(pool: ThreadPool) -> None:
    future = Lease(pool, held=False).submit(int, "not a number")

    with pytest.raises(ValueError, match="not a number"):
        future.result(60)


def test_submitted_call_may_raise_stop_iteration(pool: ThreadPool) -> None:
    async def wait() -> None:
        lease = Lease(pool, held=False)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(60):
            await loop.run_in_executor(lease, next, iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(wait())


def test_submitted_call_can_be_cancelled_while_it_waits(pool: ThreadPool) -> None:
    gates = [occupy(pool), occupy(pool)]
    future = Lease(pool, held=False).submit(int)

    assert future.cancel()
    for gate in gates:
        gate.set()


def test_result_is_told_once_the_thread_is_idle_again(pool: ThreadPool) -> None:
    lease = Lease(pool, held=False)
    for _ in range(50):
        lease.submit(int).result(60)

    assert pool.stats().threads == 1


def test_what_raises_against_its_promise_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def action() -> None:
        raise ValueError("unexpected")

    with caplog.at_level(logging.ERROR, logger="djserve.handlers"):
        assert run_safely(action) is None

    assert "A job raised in a worker thread" in caplog.text


def test_job_that_raises_does_not_end_its_thread(pool: ThreadPool) -> None:
    lease = Lease(pool, held=True)
    lease.post(lambda: int("not a number"))  # type: ignore[arg-type,return-value]

    assert lease.submit(str, 1).result(60) == "1"
    lease.release()


def test_job_that_leaves_its_thread_tidy_saves_the_idle_action(
    pool: ThreadPool,
) -> None:
    calls: list[str] = []
    lease = Lease(pool, held=False, on_idle=lambda: calls.append("idle"))

    def job(is_tidy: bool) -> None:
        calls.append("job")
        lease.is_tidy = is_tidy

    for is_tidy in (True, False):
        lease.submit(job, is_tidy).result(60)

    assert calls == ["job", "job", "idle"]


@pytest.mark.e2e
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_child_of_a_job_that_returns_ends_whoever_had_the_lock(
    pool: ThreadPool, tmp_path: Path
) -> None:
    pids: list[int] = []

    def tidy() -> None:
        (tmp_path / str(os.getpid())).touch()

    def fork() -> None:
        with held_elsewhere(pool.lock):
            pids.append(os.fork())

    async def main() -> int:
        with ForkGuard(tuple, loop=asyncio.get_running_loop()):
            lease = Lease(pool, held=False, on_idle=tidy)
            Mailbox(asyncio.get_running_loop()).post(lease, fork)
            await wait_until(lambda: pids)
            return await asyncio.to_thread(exit_code_of, pids[0])

    assert asyncio.run(main()) == 1
    # What would close the parent's connections.
    assert [path.name for path in tmp_path.iterdir()] == [str(os.getpid())]


@pytest.mark.e2e
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_child_of_the_loop_that_returns_runs_no_job_of_its_parent(
    pool: ThreadPool, tmp_path: Path
) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        with ForkGuard(tuple, loop=loop):
            # As another request of the same turn of the loop.
            Mailbox(loop).post(
                Lease(pool, held=False), lambda: (tmp_path / str(os.getpid())).touch()
            )
            with held_elsewhere(pool.lock):
                pid = os.fork()
            return await asyncio.to_thread(exit_code_of, pid)

    assert asyncio.run(main()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [str(os.getpid())]


@pytest.mark.e2e
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_child_that_lives_on_is_told_that_it_has_no_pool(pool: ThreadPool) -> None:
    Lease(pool, held=False).submit(lambda: None).result(60)

    with held_elsewhere(pool.lock):
        pid = os.fork()
        if pid == 0:
            code = 2
            try:
                Lease(pool, held=False).submit(lambda: None)
            except RuntimeError as error:
                code = 3 if "are its parent's" in str(error) else 2
            finally:
                os._exit(code)

    assert exit_code_of(pid) == 3


@pytest.mark.e2e
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_child_that_lives_on_may_have_a_pool_of_its_own() -> None:
    async def main() -> int:
        with ForkGuard(tuple, loop=asyncio.get_running_loop()):
            pid = os.fork()
            if pid == 0:
                code = 2
                try:
                    own = Lease(ThreadPool(1), held=False)
                    code = own.submit(lambda: 3).result(60)
                    code += own.submit(lambda: 1).result(60)
                finally:
                    os._exit(code)
            return await asyncio.to_thread(exit_code_of, pid)

    assert asyncio.run(main()) == 4
