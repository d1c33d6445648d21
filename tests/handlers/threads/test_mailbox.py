"""What the loop and the threads hand to each other, many things at a time."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

from djserve.handlers.threads.leases import Lease
from djserve.handlers.threads.mailbox import Mailbox
from djserve.handlers.threads.pool import ThreadPool
from tests.support.waiting import wait_until


def test_many_results_share_a_wake_up() -> None:
    async def main() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        wakes, delivered = 0, 0
        original = loop.call_soon_threadsafe

        def count(*args: Any, **kwargs: Any) -> Any:
            nonlocal wakes
            wakes += 1
            return original(*args, **kwargs)

        def deliver() -> None:
            nonlocal delivered
            delivered += 1

        vars(loop)["call_soon_threadsafe"] = count
        mailbox = Mailbox(loop)
        for _ in range(10):
            mailbox.put(deliver)
        await asyncio.sleep(0)
        mailbox.put(deliver)
        await asyncio.sleep(0)
        return wakes, delivered

    assert asyncio.run(main()) == (2, 11)


def test_result_for_a_closed_loop_is_dropped() -> None:
    loop = asyncio.new_event_loop()
    loop.close()

    Mailbox(loop).put(lambda: pytest.fail("delivered"))


def test_jobs_of_one_turn_begin_at_its_end(pool: ThreadPool) -> None:
    async def main() -> tuple[int, int]:
        mailbox, done = Mailbox(asyncio.get_running_loop()), list[int]()
        for number in range(5):
            mailbox.post(Lease(pool, held=False), partial(done.append, number))
        before = pool.stats().threads
        await wait_until(lambda: len(done) == 5)
        return before, sum(done)

    assert asyncio.run(main()) == (0, 10)


def test_jobs_of_one_lease_keep_their_order(pool: ThreadPool) -> None:
    async def main() -> list[int]:
        mailbox, done = Mailbox(asyncio.get_running_loop()), list[int]()
        lease = Lease(pool, held=True)
        for number in range(5):
            mailbox.post(lease, partial(done.append, number))
        await wait_until(lambda: len(done) == 5)
        lease.release()
        return done

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


def test_job_that_is_withdrawn_in_its_turn_never_runs(pool: ThreadPool) -> None:
    async def main() -> None:
        mailbox, lease = Mailbox(asyncio.get_running_loop()), Lease(pool, held=False)

        def job() -> None:
            pytest.fail("ran")

        mailbox.post(lease, job)
        assert lease.withdraw(job)
        await asyncio.to_thread(lease.submit(int).result, 60)

    asyncio.run(main())


def test_lease_that_is_released_in_its_turn_gives_its_thread_back(
    pool: ThreadPool,
) -> None:
    async def main() -> None:
        mailbox, lease = Mailbox(asyncio.get_running_loop()), Lease(pool, held=True)
        done: list[Any] = []
        mailbox.post(lease, lambda: done.append(1))
        lease.release()
        await wait_until(lambda: done == [1] and pool.stats().running == 0)

    asyncio.run(main())
    assert pool.stats().parked == 0


def test_requests_that_arrive_in_one_turn_count_as_waiting(pool: ThreadPool) -> None:
    async def main() -> tuple[int, int]:
        mailbox = Mailbox(asyncio.get_running_loop())
        done: list[int] = []
        for number in range(5):
            mailbox.post(Lease(pool, held=False), partial(done.append, number))
        # Two of five would find a thread.
        before = pool.excess
        await wait_until(lambda: len(done) == 5)
        return before, pool.excess

    assert asyncio.run(main()) == (3, 0)


def test_delivery_that_raises_holds_up_no_other() -> None:
    faults: list[object] = []

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: faults.append(context["message"]))
        mailbox = Mailbox(loop)
        delivered: list[str] = []

        def fail() -> None:
            raise LookupError

        for delivery in (fail, partial(delivered.append, "second"), fail):
            mailbox.put(delivery)
        mailbox.put(partial(delivered.append, "fourth"))
        await wait_until(lambda: len(delivered) == 2)
        return delivered

    assert asyncio.run(main()) == ["second", "fourth"]
    assert len(faults) == 2


def test_deliveries_are_in_no_context_of_who_puts_them() -> None:
    colour: ContextVar[str] = ContextVar("colour", default="none")
    seen: list[str] = []

    async def main() -> None:
        colour.set("green")
        mailbox = Mailbox(asyncio.get_running_loop())
        mailbox.put(lambda: seen.append(colour.get()))
        await wait_until(lambda: seen)

    asyncio.run(main())
    assert seen == ["none"]
