"""From the event loop into a thread and back, as asgiref does it but in fewer steps.

Code in a thread sees the caller's context variables; what it sets is seen by the
caller. What asgiref keeps of both is the business of ``asgiref_compat``.
"""

# Where a call goes
#
# All synchronous code of a request has to share a thread, since database connections
# and transactions belong to one. djserve's lanes and middleware find the way to it by
# the context variable ``CURRENT``, the project's own ``sync_to_async`` by what asgiref
# keeps (``asgiref_compat``). There are three:
#
# - ``LeasedHops``: the thread of the request's lease. One exception: a synchronous view
#   that waits in ``async_to_sync`` for a coroutine that calls back. The lease's thread
#   is the one that waits, so a job posted to it would never begin; asgiref hands such
#   calls to the waiting thread itself, and is left to do it.
# - ``InheritedHops``: a handler that runs inside of another's thread-sensitive context
#   (a test client, a parent application) uses what that has chosen.
# - ``PassedHops``: an agent has replaced asgiref's methods, and they must be called.
#
# What goes along with a call
#
# The context is copied before and restored after, so that a variable that is set in the
# thread is seen by the code that follows the await. The exception that is being handled
# goes along too: ``sys.exc_info()`` belongs to the thread, and code such as a logger in
# an exception handler, or a bare ``raise``, would find nothing there. Raising it again
# inside of ``_run`` is the only way to set it.
#
# Who may cancel
#
# A thread cannot be stopped, so a cancellation is one of three, and ``abandon`` finds
# out which by asking in this order. Withdrawn: the job has not begun and never will.
# Passed on: it waits for a coroutine, which is cancelled, and what the view makes of
# that is its result. Neither: it is waited for, since its thread still reads the
# request's content and may hold a transaction; the caller gets CancelledError only
# then. ``has_ended`` is written and read on the loop alone, so between looking at it
# and making the future no end can slip through.

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from asgiref.sync import sync_to_async

from djserve.handlers.threads.asgiref_compat import (
    enter_thread,
    forget_ended_threads,
    has_waiting_thread,
    rehome,
    restore_context,
)
from djserve.handlers.threads.leases import Lease, as_runtime_error
from djserve.handlers.threads.mailbox import Mailbox

P = ParamSpec("P")
T = TypeVar("T")


def forget_closed_loop() -> None:
    """Forget the loop that an earlier request has set in this thread, and closed.

    ``asyncio.get_event_loop`` would return it, and code that makes a loop only if there
    is none, and closes it at its end, would work once in each thread.
    """
    # Asked for by its name it would be an exception if there is none, as nearly always.
    policy: Any = getattr(asyncio.events, "_event_loop_policy", None)
    loop = getattr(getattr(policy, "_local", None), "_loop", None)
    if loop is not None and loop.is_closed():
        asyncio.set_event_loop(None)


class Hops(Protocol):
    """The way of one request from the loop into the thread of its synchronous code."""

    @property
    def was_used(self) -> bool:
        """Whether any call has been made."""

    @property
    def is_held(self) -> bool:
        """Whether a thread is kept between calls."""

    @property
    def is_thread_wanted(self) -> bool:
        """Whether others wait for a thread."""

    def hold(self) -> None:
        """Keep the thread for the next call; called in it."""

    def relax(self) -> None:
        """Keep the thread no longer than its database connections are in use."""

    def leave_tidy(self) -> None:
        """The call has closed the thread's old connections by itself; called in it."""

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        """Call ``fn`` in the thread; the exception being handled is visible there."""

    def interrupt(self, caller: asyncio.Task[Any]) -> None:
        """Cancel the coroutine that the call of a task waits for, if it does."""

    def release(self) -> None:
        """Hold the thread no longer between calls."""


class InheritedHops:
    """Calls go where asgiref was told to: a parent's thread or an outer context."""

    was_used = True
    is_held = False
    is_thread_wanted = False

    def hold(self) -> None:
        """The thread is not ours to hold."""

    def relax(self) -> None:
        """The thread is not ours to give back."""

    def leave_tidy(self) -> None:
        """Nothing is closed after a call."""

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        return await sync_to_async(_without_stop, thread_sensitive=True)(fn, *args)

    def interrupt(self, caller: asyncio.Task[Any]) -> None:
        """asgiref passes the cancellation of the caller on."""
        caller.cancel()

    def release(self) -> None:
        """The thread is not ours to release."""


class LeasedHops:
    """Calls go to a lease's thread."""

    def __init__(self, lease: Lease, mailbox: Mailbox) -> None:
        self.lease = lease
        self.mailbox = mailbox
        self._call: Call | None = None

    @property
    def was_used(self) -> bool:
        return self.lease.was_used

    @property
    def is_held(self) -> bool:
        return self.lease.is_held and self.lease.was_used

    @property
    def is_thread_wanted(self) -> bool:
        return self.lease.pool.queued > 0

    def hold(self) -> None:
        self.lease.is_held = True

    def relax(self) -> None:
        self.lease.relax()

    def leave_tidy(self) -> None:
        self.lease.is_tidy = True

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        forget_ended_threads()
        if has_waiting_thread():
            # A thread waits in async_to_sync for us: the lease's, which is not free.
            return await sync_to_async(_without_stop, thread_sensitive=True)(fn, *args)
        call = Call(self.mailbox, fn, args, sys.exc_info()[1])
        self._call = call
        self.mailbox.post(self.lease, call)
        try:
            return cast("T", await call.wait(self.lease))
        finally:
            self._call = None

    def interrupt(self, caller: asyncio.Task[Any]) -> None:
        if self._call is None:
            caller.cancel()
        else:
            self._call.cancel_coroutine()

    def release(self) -> None:
        self.lease.release()


class PassedHops(LeasedHops):
    """Calls go to a lease's thread by asgiref's methods, which an agent has replaced.

    Agents that know a request by its thread or task (New Relic) carry it over in
    ``SyncToAsync.__call__`` and ``SyncToAsync.thread_handler``.
    """

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        return await sync_to_async(fn, thread_sensitive=True)(*args)


def _without_stop(fn: Callable[..., T], *args: Any) -> T:
    """Call ``fn``; StopIteration becomes another error (``as_runtime_error``)."""
    try:
        return fn(*args)
    except StopIteration as error:
        raise as_runtime_error(error) from error


CURRENT: ContextVar[Hops] = ContextVar("djserve.handlers.threads.hops")
"""The hops of the request that this context belongs to."""


async def run_in_thread(fn: Callable[..., T], *args: Any) -> T:
    """Call ``fn`` in the thread of the request's synchronous code."""
    hops = CURRENT.get(None) or InheritedHops()
    return await hops.run(fn, *args)


class Call:
    """One call in a thread, in the caller's context or its own; awaited on the loop."""

    __slots__ = (
        "_args",
        "_context",
        "_error",
        "_exc",
        "_fn",
        "_future",
        "_mailbox",
        "_tasks",
        "_value",
        "has_ended",
        "on_finish",
    )

    def __init__(
        self,
        mailbox: Mailbox,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        exc: BaseException | None = None,
        *,
        context: Context | None = None,
    ) -> None:
        self._mailbox = mailbox
        self._fn: Any = fn
        self._args = args
        self._exc = exc
        self._context = copy_context() if context is None else context
        self.has_ended = False
        """Whether the loop has been told of the call's end."""
        self._future: asyncio.Future[None] | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._value: Any = None
        self._error: BaseException | None = None
        self.on_finish: Callable[[], object] | None = None
        """Called on the loop once the call has ended, however it did."""

    def __call__(self) -> Callable[[], None]:
        """Run in the thread; what is returned tells the loop."""
        enter_thread(self._mailbox.loop, self._tasks)
        try:
            self._value = self._context.run(self._run)
        except StopIteration as error:
            self._error = as_runtime_error(error)
        except BaseException as error:
            self._error = error
        return partial(self._mailbox.put, self._finish)

    async def wait(self, lease: Lease) -> Any:
        """Return the result; on cancellation see ``abandon``."""
        try:
            await self._end()
        except asyncio.CancelledError:
            return await self.abandon(lease)
        finally:
            self.restore_context()
        return self.result()

    async def abandon(self, lease: Lease) -> Any:
        """Come to an end after the caller has been cancelled.

        A call that has not begun is withdrawn. In one that waits for a coroutine by
        ``async_to_sync`` the coroutine is cancelled, and what the call then returns is
        its result. Any other is waited for, since its thread is still at work with
        what the caller gave it, and CancelledError is raised.
        """
        if lease.withdraw(self):
            raise asyncio.CancelledError
        has_coroutine = self.cancel_coroutine()
        await self._end()
        result = self.result()
        if not has_coroutine:
            raise asyncio.CancelledError
        return result

    def cancel_coroutine(self) -> bool:
        """Cancel the coroutine that the call is waiting for, if it does."""
        for task in list(self._tasks):
            task.cancel()
        return bool(self._tasks)

    def forget(self) -> None:
        """Leave no cycle if what is called holds this call."""
        self._fn = self.on_finish = None

    def restore_context(self) -> None:
        """Make the context variables that the call has set those of the caller."""
        restore_context(self._context)

    def _run(self) -> Any:
        rehome(self._context)
        if self._exc is None:
            return self._fn(*self._args)
        try:
            raise self._exc
        except BaseException:
            return self._fn(*self._args)

    async def _end(self) -> None:
        """Return once the call has ended, which need not have to be waited for."""
        if not self.has_ended:
            self._future = self._mailbox.loop.create_future()
            await self._future

    def result(self) -> Any:
        """Return what the call has returned, or raise what it has raised."""
        error = self.take_error()
        if error is None:
            return self._value
        raise error

    def take_error(self) -> BaseException | None:
        """Return what the call has raised, once: its traceback holds the call."""
        error, self._error = self._error, None
        return error

    def _finish(self) -> None:
        self.has_ended = True
        if self.on_finish is not None:
            self.on_finish()
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
