"""Calls from the loop into a thread: context, locals, exceptions, cancellation."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from asgiref.current_thread_executor import CurrentThreadExecutor
from asgiref.local import Local
from asgiref.sync import (
    AsyncToSync,
    async_to_sync,
    sync_to_async,
)

from djserve.handlers.threads import hops
from djserve.handlers.threads.asgiref_compat import (
    count_blocked,
    enter_lease,
    forget_ended_threads,
    leave_lease,
)
from djserve.handlers.threads.hops import (
    CURRENT,
    InheritedHops,
    LeasedHops,
    run_in_thread,
)
from djserve.handlers.threads.leases import Lease
from djserve.handlers.threads.mailbox import Mailbox
from djserve.handlers.threads.pool import ThreadPool
from tests.support.waiting import settle, wait_until

COLOUR: ContextVar[str] = ContextVar("colour", default="none")
LOCAL = Local()

Work = Callable[[LeasedHops], Coroutine[Any, Any, Any]]
Run = Callable[[Work], Any]


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    pool = ThreadPool(2, count_blocked=count_blocked)
    yield pool
    assert pool.close(60)


@pytest.fixture
def run(pool: ThreadPool) -> Run:
    """Run work with hops into a thread that is held."""

    def run_work(work: Work) -> Any:
        async def main() -> Any:
            lease = Lease(pool, held=True)
            token = enter_lease(lease)
            try:
                async with asyncio.timeout(60):
                    return await work(
                        LeasedHops(lease, Mailbox(asyncio.get_running_loop()))
                    )
            finally:
                leave_lease(token)
                lease.release()

        return asyncio.run(main())

    return run_work


def test_call_runs_in_another_thread(run: Run) -> None:
    assert run(lambda hops: hops.run(threading.get_ident)) != threading.get_ident()


def test_arguments_and_result_are_passed(run: Run) -> None:
    assert run(lambda hops: hops.run(divmod, 17, 5)) == (3, 2)


def test_exception_reaches_the_caller(run: Run) -> None:
    with pytest.raises(ValueError, match="no number"):
        run(lambda hops: hops.run(int, "no number"))


def test_exception_being_handled_is_visible_in_the_thread(run: Run) -> None:
    async def work(hops: LeasedHops) -> Any:
        try:
            raise ValueError("handled")
        except ValueError:
            return await hops.run(lambda: str(sys.exc_info()[1]))

    assert run(work) == "handled"


def test_context_variables_go_both_ways(run: Run) -> None:
    async def work(hops: LeasedHops) -> Any:
        COLOUR.set("green")
        LOCAL.value = "there"

        def in_thread() -> tuple[str, str]:
            seen = COLOUR.get(), LOCAL.value
            COLOUR.set("red")
            LOCAL.value = "back"
            return seen

        return await hops.run(in_thread), COLOUR.get(), LOCAL.value

    assert run(work) == (("green", "there"), "red", "back")


def test_locals_do_not_stay_in_the_thread(run: Run) -> None:
    async def work(hops: LeasedHops) -> Any:
        async def leave_something() -> None:
            await hops.run(lambda: setattr(LOCAL, "secret", 1))

        await asyncio.create_task(leave_something())
        return await hops.run(lambda: getattr(LOCAL, "secret", "nothing"))

    assert run(work) == "nothing"


def test_sync_to_async_goes_to_the_same_thread(run: Run) -> None:
    async def work(hops: LeasedHops) -> Any:
        return {
            await hops.run(threading.get_ident),
            await sync_to_async(threading.get_ident)(),
            await asyncio.create_task(sync_to_async(threading.get_ident)()),
        }

    assert len(run(work)) == 1


def test_async_to_sync_runs_on_the_loop_of_the_caller(run: Run) -> None:
    async def work(hops: LeasedHops) -> Any:
        loop = asyncio.get_running_loop()

        async def on_loop() -> Any:
            return asyncio.get_running_loop()

        return await hops.run(async_to_sync(on_loop)) is loop

    assert run(work)


def test_call_from_below_async_to_sync_goes_to_the_waiting_thread(run: Run) -> None:
    async def work(hops: LeasedHops) -> Any:
        async def below() -> int:
            return await hops.run(threading.get_ident)

        def in_thread() -> tuple[int, int]:
            return threading.get_ident(), async_to_sync(below)()

        return await hops.run(in_thread)

    outer, inner = run(work)
    assert outer == inner


def test_cancelled_call_is_waited_for(run: Run) -> None:
    ended: list[bool] = []

    async def work(hops: LeasedHops) -> Any:
        begun = threading.Event()

        def in_thread() -> None:
            begun.set()
            time.sleep(0.05)
            ended.append(True)

        task = asyncio.create_task(hops.run(in_thread))
        await asyncio.to_thread(begun.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return list(ended)

    assert run(work) == [True]


def test_cancelled_call_that_has_not_begun_never_runs(run: Run) -> None:
    ran: list[bool] = []

    async def work(hops: LeasedHops) -> None:
        gate = threading.Event()
        first = asyncio.create_task(hops.run(gate.wait, 60))
        second = asyncio.create_task(hops.run(ran.append, True))
        await settle()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        gate.set()
        await first
        await hops.run(int)

    run(work)
    assert ran == []


def test_cancellation_reaches_the_coroutine_that_a_call_waits_for(run: Run) -> None:
    cancelled: list[bool] = []

    async def work(hops: LeasedHops) -> Any:
        begun = asyncio.Event()

        async def on_loop() -> None:
            begun.set()
            try:
                await asyncio.sleep(300)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        task = asyncio.create_task(hops.run(async_to_sync(on_loop)))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work)
    assert cancelled == [True]


def test_task_that_outlives_the_request_still_finds_a_thread(pool: ThreadPool) -> None:
    async def main() -> Any:
        lease = Lease(pool, held=True)
        token = enter_lease(lease)
        later = asyncio.Event()

        async def outlive() -> int:
            await later.wait()
            return await sync_to_async(threading.get_ident)()

        task = asyncio.create_task(outlive())
        await asyncio.sleep(0)
        leave_lease(token)
        lease.release()
        later.set()
        return await task

    assert asyncio.run(main()) != threading.get_ident()
    assert pool.stats().parked == 0


def test_inherited_call_runs_in_the_parent_thread() -> None:
    async def main() -> int:
        return await InheritedHops().run(threading.get_ident)

    assert async_to_sync(main)() == threading.get_ident()


def test_thread_of_the_request_is_found_through_the_context(run: Run) -> None:
    async def work(hops: LeasedHops) -> Any:
        CURRENT.set(hops)
        return await run_in_thread(threading.get_ident) == await hops.run(
            threading.get_ident
        )

    assert run(work)


def test_thread_that_waits_in_async_to_sync_is_counted(run: Run) -> None:
    async def work(hops: LeasedHops) -> tuple[int, int]:
        gate, begun = asyncio.Event(), asyncio.Event()
        ident = await hops.run(threading.get_ident)

        async def wait() -> None:
            begun.set()
            await gate.wait()

        task = asyncio.create_task(hops.run(async_to_sync(wait)))
        await begun.wait()
        await wait_until(lambda: count_blocked([ident]) > 0)
        waiting = count_blocked([ident])
        gate.set()
        await task
        return waiting, count_blocked([ident, threading.get_ident()])

    assert run(work) == (1, 0)


def test_count_of_those_that_wait_keeps_nothing_of_other_calls() -> None:
    class Value:
        """What a call has in a variable."""

    begun, gate = threading.Event(), threading.Event()
    values = []

    def call() -> None:
        value = Value()
        values.append(weakref.ref(value))
        begun.set()
        gate.wait(60)

    thread = threading.Thread(target=call)
    thread.start()
    begun.wait(60)
    gc.disable()
    try:
        count_blocked([thread.ident or 0])
        gate.set()
        thread.join(60)
        assert values[0]() is None
    finally:
        gc.enable()


class LateThread:
    """A view's function that is in ``async_to_sync`` when its caller is cancelled.

    asgiref's caller is told of the end before the thread is, as on a busy machine.
    """

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()

    def __call__(self) -> None:
        executor = CurrentThreadExecutor(None)
        AsyncToSync.executors.current = executor
        self.begun.set()
        assert self.may_end.wait(60)
        executor._broken = True
        AsyncToSync.executors.current = None


async def leave_late_thread() -> None:
    """Have asgiref restore a context in which a thread waits that then ends."""
    late = LateThread()
    task = asyncio.current_task()
    assert task is not None

    async def cancel() -> None:
        await wait_until(late.begun.is_set)
        task.cancel()

    canceller = asyncio.create_task(cancel())
    try:
        await sync_to_async(late)()
    except asyncio.CancelledError:
        task.uncancel()
    await canceller
    executor = AsyncToSync.executors.current
    assert executor is not None
    late.may_end.set()
    await wait_until(lambda: executor._broken)


def test_call_after_a_cancelled_one_finds_its_thread(run: Run) -> None:
    async def work(hops: LeasedHops) -> Any:
        await leave_late_thread()
        return await hops.run(threading.get_ident)

    assert run(work) != threading.get_ident()


def test_thread_that_has_ended_is_forgotten_by_asgiref_too(run: Run) -> None:
    async def work(leased: LeasedHops) -> Any:
        await leave_late_thread()
        forget_ended_threads()
        return await sync_to_async(threading.get_ident)()

    assert run(work) != threading.get_ident()


def test_context_of_a_call_at_work_does_not_bring_its_waiting_thread(run: Run) -> None:
    async def work(leased: LeasedHops) -> Any:
        late = LateThread()
        call = hops.Call(leased.mailbox, late, ())
        leased.mailbox.post(leased.lease, call)
        await wait_until(late.begun.is_set)
        call.restore_context()
        late.may_end.set()
        await wait_until(lambda: call.has_ended)
        return await sync_to_async(threading.get_ident)()

    assert run(work) != threading.get_ident()


def test_stop_iteration_in_an_inherited_thread_ends_the_call() -> None:
    def stop() -> None:
        raise StopIteration

    async def main() -> None:
        await asyncio.wait_for(InheritedHops().run(stop), 60)

    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(main())
