"""One request on its way through a lane: its connection, its threads, its client.

The lanes get a ``RequestContext`` and need nothing of the handler but what
``DjangoHandler`` declares. ``Disconnect`` cancels what works for a client when the
client goes away.
"""

# How a client that goes away ends the work for it
#
# Django's handler for ASGI starts two tasks for each request: one for the view, one
# that waits in ``receive`` for the disconnect. Most views are through before either
# could matter. Here the work runs in the request's own task, so context variables,
# timeouts and ``current_task`` are those of the call, and who listens depends on who
# serves:
#
# - Nothing listens until the work waits for the first time. ``_Interruptible`` drives
#   the coroutine by hand up to there, so a view that never waits costs no listener.
# - djserve's own exchange knows of the disconnect, and calls (``on_disconnect``). It
#   may have come before that was set: ``has_ended`` is asked once, and the answer goes
#   through the loop, since the work is about to hand its first wait to the task.
# - Under another server a task has to wait in ``receive``. Any message but the
#   disconnect is an error there, as in Django's handler.
#
# The work is stopped by ``Task.cancel`` of the request's own task, which is also how a
# server ends a call, and how ``asyncio.timeout`` works. The two must not be mixed up: a
# cancellation from elsewhere that is swallowed here would leave a server waiting for a
# call that it has ended. So each of ours is taken back with ``uncancel``, and only if
# none is left over has the work been stopped for the client's sake alone. If it has
# caught the cancellation and come to its end, that counts as completed, but ours is
# taken back as well; otherwise the next timeout in the same task would take it for its
# own.
#
# A thread cannot be cancelled. The synchronous lane sets ``on_happen`` for what can be
# done instead (``threads.pool``: "Who may cancel").

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeVar

from django.http import HttpRequest, HttpResponseBase

from djserve.asgi.http import HTTPExchange
from djserve.conf.schema import ServerConfig
from djserve.errors import ClientDisconnected
from djserve.handlers.connection_bound import has_stateful_backend
from djserve.handlers.responses import (
    send_async_stream,
    send_sync_stream,
    start_message,
)
from djserve.handlers.routing import Route
from djserve.handlers.runtime import RequestThreads
from djserve.handlers.threads.asgiref_compat import enter_lease, leave_lease
from djserve.handlers.threads.hops import CURRENT, Hops, LeasedHops
from djserve.handlers.threads.mailbox import Mailbox

if TYPE_CHECKING:
    from djserve.asgi.types import Message, Receive, Scope, Send

Exchange = TypeVar("Exchange")


def own_exchange(method: object, kind: type[Exchange]) -> Exchange | None:
    """Return the exchange of djserve's own server whose receive or send this is.

    None under another server, or if a middleware has put its own function in between.
    The only place that asks: what a server of ours spares depends on it.
    """
    owner = getattr(method, "__self__", None)
    return owner if isinstance(owner, kind) else None


def guard(send: Send) -> Send:
    """Return ``send``, or what takes its place: see ``GuardedSend``.

    djserve's own says so by itself, and two calls for each request are spared.
    """
    return GuardedSend(send) if own_exchange(send, HTTPExchange) is None else send


class GuardedSend:
    """``send`` that tells the server's errors about a lost client from all others.

    ASGI 2.4 lets ``send`` raise any OSError after a disconnect; the application's own
    OSErrors must not be taken for it.
    """

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Message) -> None:
        """Send; raises ClientDisconnected if the server says so by an OSError."""
        try:
            await self._send(message)
        except OSError as error:
            raise ClientDisconnected from error


class DjangoHandler(Protocol):
    """What the lanes call on the handler that has chosen them."""

    chunk_size: int

    @property
    def threads(self) -> RequestThreads:
        """The threads that run the synchronous code of requests."""

    @property
    def config(self) -> ServerConfig:
        """The limits that apply."""

    def is_untouched(self) -> bool:
        """Return whether no method has been replaced."""

    def create_request(
        self, scope: Any, body_file: IO[bytes]
    ) -> tuple[HttpRequest | None, HttpResponseBase | None]:
        """Return a request and None, or None and the response that refuses it."""

    def get_response(self, request: HttpRequest) -> HttpResponseBase:
        """Return the response for a request; called in a thread."""

    async def run_get_response(self, request: HttpRequest) -> HttpResponseBase:
        """Return the response for a request; called on the loop."""

    def adopt_response(self, response: HttpResponseBase) -> None:
        """Give a response of the synchronous lane what Django gives each response."""


@dataclass(slots=True, eq=False)
class RequestContext:
    """A request's ASGI connection, its content, and its way into a thread."""

    scope: Scope
    send: Send
    body: IO[bytes]
    route: Route | None
    hops: Hops
    mailbox: Mailbox
    disconnect: Disconnect
    chunk_size: int

    async def stream(
        self, response: HttpResponseBase, file_message: Message | None
    ) -> None:
        """Send a streamed response, or the message that has the server do so."""
        await self.send(start_message(response))
        if file_message is not None:
            await self.send(file_message)
        elif getattr(response, "is_async", True):
            # It may last for hours, and wait for most of them.
            if not has_stateful_backend():
                self.hops.relax()
            await send_async_stream(self.send, response, self.chunk_size)
        else:
            await send_sync_stream(
                self.send, response, self.chunk_size, self.hops, self.mailbox
            )


async def run_lane(context: RequestContext, work: Awaitable[None]) -> None:
    """Run ``work`` where the request's threads are known; let all go afterwards."""
    hops = context.hops
    current = CURRENT.set(hops)
    entered = enter_lease(hops.lease) if isinstance(hops, LeasedHops) else None
    try:
        await work
    finally:
        if entered is not None:
            leave_lease(entered)
        CURRENT.reset(current)
        context.disconnect.close()
        hops.release()


class Disconnect:
    """The listener of one request; ``close`` must be called at its end.

    ``on_happen`` is called when the client has gone, to stop work that is not ours to
    cancel as a task.
    """

    def __init__(self, receive: Receive) -> None:
        self.happened = False
        self.on_happen: Callable[[], object] | None = None
        self._receive = receive
        self._exchange: HTTPExchange | None = None
        self._listener: asyncio.Task[None] | None = None
        self._worker: asyncio.Task[Any] | None = None
        self._error: Exception | None = None

    async def cancels(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run ``work``, cancelled when the client goes away; True if it has ended.

        A cancellation from elsewhere goes on as such. Raises what ``receive`` raises,
        and AssertionError for a message that is not the disconnect, as Django does.
        """
        if self._has_happened():
            work.close()
            return False
        task = asyncio.current_task()
        assert task is not None
        self._worker = task
        try:
            await _Interruptible(work, self.listen)
        except asyncio.CancelledError:
            if not self._has_happened() or task.uncancel() > 0:
                raise
            completed = False
        else:
            completed = True
            if self._has_happened():
                # The work has caught its cancellation and gone on to its end.
                task.uncancel()
        finally:
            self._worker = None
        self.check()
        return completed

    def check(self) -> None:
        """Raise what went wrong with listening."""
        if self._error is not None:
            raise self._error

    def listen(self) -> None:
        """Listen from now on."""
        if self._listener is not None or self._exchange is not None or self.happened:
            return
        loop = asyncio.get_running_loop()
        exchange = own_exchange(self._receive, HTTPExchange)
        if exchange is not None:
            # djserve's own: it calls, and no task has to wait for it.
            self._exchange = exchange
            exchange.on_disconnect = self._happen
            if exchange.has_ended():
                loop.call_soon(self._happen)
            return
        self._listener = loop.create_task(self._listen())

    def close(self) -> None:
        """Listen no longer."""
        if self._exchange is not None:
            self._exchange.on_disconnect = None
            self._exchange = None
        elif self._listener is not None:
            self._listener.cancel()
            self._listener = None

    def _has_happened(self) -> bool:
        # By a call: the type checker takes the attribute for unchanged by an await.
        return self.happened

    async def _listen(self) -> None:
        try:
            message = await self._receive()
        except Exception as error:
            self._error = error
        else:
            if message["type"] != "http.disconnect":
                self._error = AssertionError(
                    f"Invalid ASGI message after request body: {message['type']}"
                )
        self._listener = None
        self._happen()

    def _happen(self) -> None:
        self.happened = True
        if self._worker is not None:
            self._worker.cancel()
        if self.on_happen is not None:
            self.on_happen()


class _Interruptible:
    """Await a coroutine, and call ``on_wait`` when it waits for the first time."""

    def __init__(
        self, work: Coroutine[Any, Any, None], on_wait: Callable[[], None]
    ) -> None:
        self._work = work
        self._on_wait = on_wait

    def __await__(self) -> Generator[Any, Any, None]:
        work = self._work
        try:
            pending = work.send(None)
        except StopIteration:
            return
        self._on_wait()
        while True:
            # The first wait is passed on by hand, the later ones by `yield from`.
            try:
                yield pending
            except BaseException as error:
                try:
                    pending = work.throw(error)
                except StopIteration:
                    return
            else:
                break
        yield from work.__await__()
