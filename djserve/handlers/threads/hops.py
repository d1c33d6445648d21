"""From the event loop into a thread and back, as asgiref does it but in fewer steps.

The only module that knows how asgiref keeps its thread-sensitive contexts, its locals
and the loop that ``async_to_sync`` runs on. Code in a thread sees the caller's context
variables; what it sets is seen by the caller.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from contextvars import Context, ContextVar, Token, copy_context
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, cast

from asgiref.current_thread_executor import CurrentThreadExecutor
from asgiref.local import _rehome, _Storage
from asgiref.sync import (
    AsyncToSync,
    SyncToAsync,
    ThreadSensitiveContext,
    sync_to_async,
)

from djserve.handlers.threads.leases import Lease, as_runtime_error
from djserve.handlers.threads.mailbox import Mailbox

P = ParamSpec("P")
T = TypeVar("T")

_UNSET = object()

_EXECUTORS: ContextVar[_Storage] | None = getattr(
    getattr(AsyncToSync.executors, "_storage", None), "_data", None
)
"""What asgiref keeps ``executors`` in; None where that is kept in another way."""


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
        local = SyncToAsync.threadlocal
        # Where async_to_sync finds the loop to run its coroutine on, and where it
        # leaves the task of that coroutine, so that it can be cancelled.
        local.main_event_loop = self._mailbox.loop
        local.main_event_loop_pid = os.getpid()
        local.task_context = self._tasks
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
        """Leave no cycle where what is called holds this call."""
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


def rehome(context: Context) -> None:
    """Make the asgiref locals of the running context those of this thread."""
    for variable, value in context.items():
        if isinstance(value, _Storage) and value.thread_id != threading.get_ident():
            variable.set(_rehome(value))


def restore_context(context: Context) -> None:
    """Set the variables of another context in the running one.

    All but asgiref's note of who waits in ``async_to_sync``: a thread that is still at
    work there does so for the coroutine that it waits for alone.
    """
    for variable, value in context.items():
        if variable is not _EXECUTORS and variable.get(_UNSET) is not value:
            variable.set(_rehome(value) if isinstance(value, _Storage) else value)


def has_waiting_thread() -> bool:
    """Whether a thread waits in ``async_to_sync`` for this task, to run its calls."""
    # Where nothing was ever set, to find that out by the local's own methods takes a
    # lock and an exception, 2 us (benchmark: django_sync).
    if _EXECUTORS is not None:
        storage = _EXECUTORS.get(None)
        if storage is None or "current" not in storage.data:
            return False
    return getattr(AsyncToSync.executors, "current", None) is not None


def forget_ended_threads() -> None:
    """Forget threads that waited in ``async_to_sync`` for this task and have ended.

    asgiref restores the context of a cancelled ``sync_to_async`` while its thread is
    still in it; a call would then fail with "CurrentThreadExecutor already quit".
    """
    if not has_waiting_thread():
        return
    executor: Any = AsyncToSync.executors.current
    while executor is not None and executor._broken:
        executor = getattr(executor, "_old_executor", None)
    AsyncToSync.executors.current = executor


def inherits_threads() -> bool:
    """Whether a caller of this task says already where synchronous code runs.

    That is a thread that waits in ``async_to_sync`` (a test's, with its database
    transaction), or an enclosing ``ThreadSensitiveContext``.
    """
    if has_waiting_thread():
        return True
    return SyncToAsync.thread_sensitive_context.get(None) is not None


def current_lease() -> Lease | None:
    """Return the lease that thread-sensitive calls of this context go to, if any."""
    context = SyncToAsync.thread_sensitive_context.get(None)
    if context is not _LEASED or has_waiting_thread():
        return None
    return _LEASE.get()


class _ToLease(Executor):
    """Passes the calls of each context on to that context's lease."""

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        return _LEASE.get().submit(fn, *args, **kwargs)


_LEASE: ContextVar[Lease] = ContextVar("djserve.handlers.lease")
"""Where the thread-sensitive calls of a context that is ``_LEASED`` go."""

# One for all, so that none has to be registered with asgiref, by a weak reference, for
# each request (benchmark: django_sync). It is never marked as exited: a task that
# outlives its request and calls sync_to_async finds the lease, which then holds no
# thread between calls.
_LEASED = ThreadSensitiveContext()
SyncToAsync.context_to_thread_executor[_LEASED] = _ToLease()

LeaseTokens: TypeAlias = tuple[Token[Lease], Token[ThreadSensitiveContext]]


def enter_lease(lease: Lease) -> LeaseTokens:
    """Send the thread-sensitive calls of this context, and of its tasks, to a lease."""
    if has_waiting_thread():
        # A parent's thread comes before any context; hidden, for this task only.
        AsyncToSync.executors.current = None
    return _LEASE.set(lease), SyncToAsync.thread_sensitive_context.set(_LEASED)


def leave_lease(tokens: LeaseTokens) -> None:
    """Undo ``enter_lease``."""
    lease, context = tokens
    SyncToAsync.thread_sensitive_context.reset(context)
    _LEASE.reset(lease)


def count_blocked(idents: Iterable[int]) -> int:
    """Count the threads that do nothing but wait in ``async_to_sync`` for the loop."""
    frames = sys._current_frames()
    return sum(_is_waiting(frames.get(ident)) for ident in idents)


def _is_waiting(frame: Any) -> bool:
    return (
        frame is not None
        and frame.f_code is threading.Condition.wait.__code__
        and frame.f_back is not None
        and frame.f_back.f_code is CurrentThreadExecutor.run_until_future.__code__
    )
