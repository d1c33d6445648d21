"""What djserve uses of asgiref that is not documented: all of it is here.

| Name | What it is for |
| --- | --- |
| ``local._Storage``, ``local._rehome`` | values of a ``Local`` belong to one thread |
| ``AsyncToSync.executors`` | which thread waits in ``async_to_sync`` for a task |
| ``SyncToAsync.thread_handler`` | runs in the thread: agents replace it |
| ``SyncToAsync.single_thread_executor`` | calls of a loop that a job itself runs |
| ``SyncToAsync.threadlocal`` | the loop and the tasks of ``async_to_sync`` |
| ``SyncToAsync.thread_sensitive_context`` | where thread-sensitive calls go |
| ``SyncToAsync.context_to_thread_executor`` | the executor of such a context |
| ``CurrentThreadExecutor._broken``, ``_old_executor`` | whether a wait has ended |
| ``CurrentThreadExecutor.run_until_future`` | the frame that a thread waits in |

A release of asgiref that lacks one of them is refused at the import: without them the
context of one request might be seen in another. That ``executors`` keeps its value in
one context variable is made use of, but not needed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from contextvars import Context, ContextVar, Token
from typing import Any, ParamSpec, TypeAlias, TypeVar

from asgiref import local
from asgiref.current_thread_executor import CurrentThreadExecutor
from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext

from djserve.handlers.threads.leases import Lease, current_worker
from djserve.packages import require

P = ParamSpec("P")
T = TypeVar("T")

OLDEST = "3.13"
"""The first release of asgiref that has all of the names."""

require("asgiref", local, "_Storage", "_rehome", oldest=OLDEST)
require("asgiref", vars(local)["_Storage"], "data", "thread_id", oldest=OLDEST)
require("asgiref", AsyncToSync, "executors", oldest=OLDEST)
require(
    "asgiref",
    SyncToAsync,
    "context_to_thread_executor",
    "single_thread_executor",
    "thread_handler",
    "thread_sensitive_context",
    "threadlocal",
    oldest=OLDEST,
)
require(
    "asgiref",
    CurrentThreadExecutor,
    "_broken",
    "_old_executor",
    "run_until_future",
    oldest=OLDEST,
)

_STORAGE: Any = vars(local)["_Storage"]
_REHOME: Any = vars(local)["_rehome"]
_UNSET = object()

CALL_METHODS = (vars(SyncToAsync)["__call__"], vars(SyncToAsync)["thread_handler"])
"""What takes a call into a thread; agents that know requests by it replace them."""

_EXECUTORS: ContextVar[Any] | None = getattr(
    getattr(AsyncToSync.executors, "_storage", None), "_data", None
)
"""What asgiref keeps ``executors`` in; None if that is kept in another way."""


def enter_thread(
    loop: asyncio.AbstractEventLoop, tasks: list[asyncio.Task[Any]]
) -> None:
    """Have ``async_to_sync`` in this thread run its coroutines on ``loop``.

    It leaves the task of the coroutine in ``tasks``, so that it can be cancelled.
    """
    here = SyncToAsync.threadlocal
    here.main_event_loop = loop
    here.main_event_loop_pid = os.getpid()
    here.task_context = tasks


def rehome(context: Context) -> None:
    """Make the asgiref locals of the running context those of this thread."""
    for variable, value in context.items():
        if isinstance(value, _STORAGE) and value.thread_id != threading.get_ident():
            variable.set(_REHOME(value))


def restore_context(context: Context) -> None:
    """Set the variables of another context in the running one.

    All but asgiref's note of who waits in ``async_to_sync``: a thread that is still at
    work there does so for the coroutine that it waits for alone.
    """
    for variable, value in context.items():
        if variable is not _EXECUTORS and variable.get(_UNSET) is not value:
            variable.set(_REHOME(value) if isinstance(value, _STORAGE) else value)


def has_waiting_thread() -> bool:
    """Whether a thread waits in ``async_to_sync`` for this task, to run its calls."""
    # If nothing was ever set, to find that out by the local's own methods takes a
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
    """Passes the calls of each context on to that context's lease.

    A job that runs a loop itself (``asyncio.run`` in a synchronous view) waits for
    them in the lease's own thread, where they would wait for it: they go where they go
    under WSGI. So do those of a process that a view has forked.
    """

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        lease = _LEASE.get()
        worker = current_worker()
        is_own = worker is not None and worker.lease is lease
        if is_own or lease.pool.is_parents:
            return SyncToAsync.single_thread_executor.submit(fn, *args, **kwargs)
        return lease.submit(fn, *args, **kwargs)


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
    # Together with this one, the dictionary would be a cycle, and keep all that the
    # calls of all threads had in their variables until it is collected.
    del frames[threading.get_ident()]
    return sum(_is_waiting(frames.get(ident)) for ident in idents)


def _is_waiting(frame: Any) -> bool:
    return (
        frame is not None
        and frame.f_code is threading.Condition.wait.__code__
        and frame.f_back is not None
        and frame.f_back.f_code is CurrentThreadExecutor.run_until_future.__code__
    )
