"""Run application calls: one task each, its end told to its exchange exactly once.

An application of djserve's own may answer without a task (``DirectLane``).
Here and nowhere else an application's exception is caught. It is logged once, with its
traceback, and the exchange turns it into what the client sees.
"""

# Who ends a call, and who hears of its end
#
# A call of the application ends in one of four ways: it returns, it raises, it is
# cancelled, or its client goes and it is left to end. The exchange is told once in each
# (``application_finished`` or ``application_failed``), and only from here, so that it
# can rely on being the last thing to happen to it.
#
# - Returning is not enough: a response that has not been completed is a fault of the
#   application, which the exchange finds out by its own state.
# - What is raised is logged once, here, with its traceback. Exceptions that are not
#   faults are told apart in ``outcomes``: the client has gone and ``send`` said so; the
#   loop is being closed; a WebSocket has no route.
# - A cancellation that we asked for (a timeout, the end of the drain) is not a fault.
#   One that the application has raised by itself is.
# - A client that goes does not cancel the call at once. It may be in the middle of
#   something that should be completed, and it learns of the end by ``receive`` or by
#   ``send``. If it still runs APPLICATION_CLOSE_TIMEOUT later, it is cancelled, and the
#   log says so.
#
# A call's context is a copy of the one in which the server was started, never of the
# one in which the request happened to arrive: asyncio passes on the context of whatever
# asked for a callback, and that may be another request's. One user's language or trace
# must not be another's.

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import time
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from djserve.asgi.consumers import attend_consumers
from djserve.asgi.outcomes import (
    KINDS,
    ends_the_loop,
    is_being_cancelled,
    is_disconnect,
    is_unrouted,
    log_unrouted,
)
from djserve.errors import ApplicationError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from contextvars import Context

    from djserve.asgi.types import Application, Message, Scope

logger = logging.getLogger("djserve.error")


class Conversation(Protocol):
    """What an exchange shows to the application call that it carries."""

    scope: Scope

    async def receive(self) -> Message: ...
    async def send(self, message: Message, /) -> None: ...

    def application_finished(self) -> None:
        """The application has returned."""

    def application_failed(self, error: BaseException, /) -> None:
        """The application has raised, or was cancelled."""


class DirectCall(Protocol):
    """A call without a task.

    It ends by ``ApplicationCalls.finish``, or becomes a task by ``adopt``.
    """

    def cancel(self) -> None:
        """End it soon; may be asked for again."""


class DirectLane(Protocol):
    """What begins calls without a task.

    An application whose type has a method ``direct_lane`` is asked for it once, with
    the calls that it will belong to.
    """

    def begin(self, exchange: Any) -> DirectCall | None:
        """Begin the call; None for a request that needs a task.

        It does not end before the loop's next turn. What it raises is raised by the
        application as well, and answered there.
        """


class RunningCall(NamedTuple):
    """A call as others see it; ``task`` is None while it has none.

    ``begun`` is the ``time.perf_counter`` of its beginning.
    """

    scope: Scope
    task: asyncio.Task[None] | None
    begun: float


# Calls that may end within their start, one after the other. The next waits for a turn
# of the loop, or a peer that sends many requests ahead would leave none to others.
AT_ONCE_LIMIT = 32


class ApplicationCalls:
    """Start application calls and own their tasks until they end.

    ``close_timeout`` is how many seconds a call may run on after its client has gone;
    0 lets it run.
    """

    def __init__(
        self,
        application: Application,
        loop: asyncio.AbstractEventLoop,
        close_timeout: float,
    ) -> None:
        self._application = application
        self._close_timeout = close_timeout
        self._running: dict[Conversation, asyncio.Task[None] | DirectCall] = {}
        self._abandoned: dict[Conversation, float | None] = {}
        self.loop = loop
        # A call may begin inside of another: if that has ended its response, or has
        # the connection read on (asyncio calls back in the context of who asked for
        # it). It does not see what the other has set.
        self._context = copy_context()
        self._start_eagerly = _eager_starter(loop, self._context)
        self._ended_at_once = 0
        self._idle: asyncio.Future[None] | None = None
        self._beginnings: dict[Conversation, float] | None = None
        attend_consumers()
        self._direct = self._context.run(open_direct_lane, application, self)

    def __len__(self) -> int:
        return len(self._running)

    def __iter__(self) -> Iterator[RunningCall]:
        now = time.perf_counter()
        beginnings = self._beginnings or {}
        for exchange, call in list(self._running.items()):
            task = call if isinstance(call, asyncio.Task) else None
            yield RunningCall(exchange.scope, task, beginnings.get(exchange, now))

    def note_beginnings(self) -> None:
        """Keep the time when each call begins, from now on; it costs each a little."""
        self._beginnings = {}

    def is_running(self, exchange: Conversation) -> bool:
        """Return whether the call of ``exchange`` has begun and not ended."""
        return exchange in self._running

    def start(self, exchange: Conversation) -> None:
        """Run the application for ``exchange``."""
        if self._beginnings is not None:
            self._beginnings[exchange] = time.perf_counter()
        if self._direct is not None:
            call = self._begin_directly(self._direct, exchange)
            if call is not None:
                self._running[exchange] = call
                return
        coroutine = self._call(exchange, self._application)
        if self._start_eagerly is not None and self._ended_at_once < AT_ONCE_LIMIT:
            task = self._start_eagerly(coroutine)
            if task.done():
                self._ended_at_once += 1
                return
        else:
            self._ended_at_once = 0
            task = self.loop.create_task(coroutine, context=self._context.copy())
        self._running[exchange] = task

    def copy_context(self) -> Context:
        """Return the context variables that a call begins with."""
        return self._context.copy()

    def finish(
        self,
        exchange: Conversation,
        error: BaseException | None,
        *,
        was_cancelled: bool = False,
    ) -> None:
        """Note the end of a direct call, and what it has raised.

        ``was_cancelled`` says whether we had asked for that.
        """
        self._end(exchange)
        if error is None:
            exchange.application_finished()
        else:
            self._fail(exchange, error, was_cancelled)

    def adopt(self, exchange: Conversation, application: Application) -> None:
        """Have ``application`` go on with a direct call, in a task."""
        self._running[exchange] = self.loop.create_task(
            self._call(exchange, application), context=self._context.copy()
        )

    def abandon(self, exchange: Conversation) -> None:
        """Note that the client of ``exchange`` has gone; its call should end soon."""
        if self._close_timeout and exchange in self._running:
            self._abandoned[exchange] = None

    def cancel(self, exchange: Conversation) -> None:
        """Cancel the call of ``exchange``, if it still runs."""
        call = self._running.get(exchange)
        if call is not None:
            _cancel(call)

    def tick(self, now: float) -> None:
        """Cancel what has outlived its client for too long."""
        for exchange, since in list(self._abandoned.items()):
            if since is None:
                self._abandoned[exchange] = now
            elif now - since >= self._close_timeout:
                del self._abandoned[exchange]
                logger.warning(
                    "Application call for %s took longer than %g s to end after its "
                    "client had gone and was cancelled",
                    exchange.scope.get("path"),
                    self._close_timeout,
                )
                self.cancel(exchange)

    async def wait(self, timeout: float) -> None:
        """Wait until no call runs, at most ``timeout`` seconds."""
        if self._running:
            if self._idle is None:
                self._idle = self.loop.create_future()
            await asyncio.wait([self._idle], timeout=timeout)

    async def cancel_all(self, timeout: float) -> int:
        """Cancel every call and wait for their ends; return how many there were."""
        calls = list(self._running.values())
        for call in calls:
            _cancel(call)
        await self.wait(timeout)
        return len(calls)

    def _begin_directly(
        self, lane: DirectLane, exchange: Conversation
    ) -> DirectCall | None:
        try:
            return lane.begin(exchange)
        except BaseException:
            # Raised again by the task, which has an answer.
            return None

    async def _call(self, exchange: Conversation, application: Application) -> None:
        try:
            await application(exchange.scope, exchange.receive, exchange.send)
        except BaseException as error:
            # SystemExit too: one request cannot stop the server for all the others.
            call = self._running.get(exchange)
            task = call if isinstance(call, asyncio.Task) else None
            self._end(exchange)
            if ends_the_loop(error, task):
                raise
            self._fail(exchange, error, is_being_cancelled())
        else:
            self._end(exchange)
            exchange.application_finished()

    def _fail(
        self, exchange: Conversation, error: BaseException, was_cancelled: bool
    ) -> None:
        try:
            error = _judge(exchange.scope, error, was_cancelled)
        except Exception as another:
            # A class of exceptions may have methods that raise, for who looks at it or
            # prints it. The client is answered.
            another.__context__ = None
            log_fault(exchange.scope, another)
            error = another
        exchange.application_failed(error)

    def _end(self, exchange: Conversation) -> None:
        self._running.pop(exchange, None)
        if self._abandoned:
            self._abandoned.pop(exchange, None)
        if self._beginnings is not None:
            self._beginnings.pop(exchange, None)
        if self._idle is not None and not self._running:
            self._idle.set_result(None)
            self._idle = None


def open_direct_lane(
    application: Application, calls: ApplicationCalls
) -> DirectLane | None:
    """Return an application's own way for calls without a task, if it has one.

    By its type: what wraps an application may answer for all of its attributes (proxies
    of tracing tools), and would be passed by.
    """
    find_lane = getattr(type(application), "direct_lane", None)
    lane: DirectLane | None = (
        None if find_lane is None else find_lane(application, calls)
    )
    return lane


def takes_websockets(application: Application) -> bool:
    """Return False for an application that is known to take none."""
    find = getattr(type(application), "takes_websockets", None)
    return True if find is None else bool(find(application))


def _cancel(call: asyncio.Task[None] | DirectCall) -> None:
    """Cancel a call; a task at its first step if it has not begun (Python 3.11).

    Cancelled before that, a task runs no line of its coroutine, and no one would be
    told of the end.
    """
    if not isinstance(call, asyncio.Task):
        call.cancel()
        return
    coroutine = cast("Coroutine[Any, Any, None]", call.get_coro())
    if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
        call.get_loop().call_soon(call.cancel)
    else:
        call.cancel()


def _judge(scope: Scope, error: BaseException, was_cancelled: bool) -> BaseException:
    """Log what is a fault; return what the client is to be told."""
    if isinstance(error, asyncio.CancelledError):
        if was_cancelled:
            return error
        # Nobody asked for it: the application let one of its own through.
        log_fault(scope, error)
        return ApplicationError("The application raised CancelledError")
    if is_unrouted(scope, error):
        return log_unrouted(scope)
    if not is_disconnect(error):
        log_fault(scope, error)
    return error


def log_fault(scope: Scope, error: BaseException) -> None:
    """Log an application's fault once, with its traceback."""
    what = (
        "broke ASGI" if isinstance(error, ApplicationError) else "raised an exception"
    )
    log = partial(
        logger.error,
        "Application %s in %s %s",
        what,
        scope.get("method") or KINDS.get(scope.get("type", ""), "WebSocket"),
        scope.get("path"),
        exc_info=error,
    )
    context: Context | None = error.__dict__.pop(_CONTEXT, None)
    if context is None:
        log()
    else:
        context.run(log)


def keep_context(error: BaseException) -> None:
    """Have a fault logged in the context variables of this moment."""
    error.__dict__[_CONTEXT] = copy_context()


_CONTEXT = "_djserve_context"
"""The attribute of an exception that has the context which it is logged in."""


def _eager_starter(
    loop: asyncio.AbstractEventLoop, context: Context
) -> Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]] | None:
    """Return what makes an eager task in a copy of ``context``; None before 3.12.

    An eager task runs the application up to its first real wait without a turn of the
    loop; many requests end there (benchmark: http1_hello).
    """
    if sys.version_info >= (3, 12):
        return lambda coroutine: asyncio.Task(
            coroutine, loop=loop, context=context.copy(), eager_start=True
        )
    return None
