"""Requests of the synchronous lane without a task, if djserve itself is the server.

A request that is complete when it begins, and a response that is small and whole: the
loop only hands the one to a thread, and sends the other. There is nothing to wait for,
so no coroutine waits (benchmark: django_sync). Whatever turns out to be more is left to
a task, which does the rest as the plain lane does.
"""

# Who ends the call
#
# The plain lane has a coroutine, and a coroutine ends once. Here nothing runs on the
# loop between two callbacks, so what would be a ``finally`` there is ``_settle``, and
# each way to it must exclude the others:
#
# - The thread has done all: ``on_end``, which always comes last. A response that was
#   sent by ``on_head`` stays sent; the error that sending raised is kept until here,
#   since the thread is still at work and the lease is not free.
# - The server wants an end (``cancel``). If the job has not begun, it is withdrawn from
#   the lease, and since a lease gives a job away only once, no ``on_end`` follows. If
#   it has, ``on_end`` settles as always; a view that is asynchronous after all is
#   cancelled.
# - No thread came free in time: ``on_refused`` has the job withdrawn already, and a
#   task answers 503, because sending may have to wait for the client.
#
# ``_become_task`` is the fourth: a response that is streamed, too long, or not taken at
# once needs somebody to wait for the client. The task gets the hops with the lease, so
# that the rest is drawn in the same thread, and from then on the call is the task's:
# this object has forgotten it, and ``_settle`` is never reached. A cancellation that
# came before the task existed is passed on to it.
#
# What is asked for in ``begin`` is asked in the order of its price, and all of it
# before anything is taken: content that was taken out of the exchange could not be
# given back to a task.

from __future__ import annotations

import asyncio
from contextvars import Context
from io import BytesIO
from typing import TYPE_CHECKING, Any

from django.conf import settings

from djserve.asgi.http import HTTPExchange
from djserve.handlers.request_context import (
    Disconnect,
    DjangoHandler,
    RequestContext,
    run_lane,
)
from djserve.handlers.responses import send_busy
from djserve.handlers.routing import Route, resolve_route, urls_are_imported, view_of
from djserve.handlers.runtime import make_lease
from djserve.handlers.sync_lane import LeasedWork, conclude, outcome
from djserve.handlers.threads.asgiref_compat import enter_lease
from djserve.handlers.threads.hops import CURRENT, LeasedHops

if TYPE_CHECKING:
    from djserve.asgi.application import ApplicationCalls
    from djserve.asgi.types import Receive, Scope, Send


class DirectLane:
    """Begins the calls of one handler that need no task (asgi.application)."""

    def __init__(self, handler: DjangoHandler, calls: ApplicationCalls) -> None:
        self._handler = handler
        self._calls = calls

    def begin(self, exchange: Any) -> DirectCall | None:
        """Begin a call; None for a request that needs a task."""
        if (
            type(exchange) is not HTTPExchange
            or not exchange.is_request_complete
            or exchange.has_ended()
        ):
            return None
        handler = self._handler
        if not handler.is_untouched():
            return None
        if exchange.inbox_size and exchange.inbox_size > self._content_limit():
            return None
        if handler.threads.is_overloaded() or not urls_are_imported():
            return None
        context = self._calls.copy_context()
        route = context.run(resolve_route, exchange.scope)
        if route is not None and route.is_async:
            exchange.route = route
            return None
        return DirectCall(handler, exchange, self._calls, route, context)

    def _content_limit(self) -> int:
        return min(
            settings.FILE_UPLOAD_MAX_MEMORY_SIZE,
            self._handler.config.http.body_size_limit,
        )


class DirectCall(LeasedWork):
    """One request on its way through a thread. All but ``run`` belongs to the loop."""

    def __init__(
        self,
        handler: DjangoHandler,
        exchange: HTTPExchange,
        calls: ApplicationCalls,
        route: Route | None,
        context: Context,
    ) -> None:
        threads = handler.threads
        lease = make_lease(threads.pool, *view_of(route))
        content: bytes = exchange.take_content()["body"]
        super().__init__(
            handler,
            exchange.scope,
            BytesIO(content),
            route,
            LeasedHops(lease, threads.mailbox()),
            context,
        )
        self._exchange = exchange
        self._calls = calls
        self._error: BaseException | None = None
        self._has_client_gone = False
        self.is_cancelled = False
        """Whether the server wants the call to end."""
        exchange.on_disconnect = self._on_disconnect
        self.post()

    def run(self) -> None:
        """Make the response, in the thread and the request's own context."""
        CURRENT.set(self.hops)
        enter_lease(self.lease)
        super().run()

    def cancel(self) -> None:
        """End soon: at once if it has not begun, else as soon as its thread ends."""
        self.is_cancelled = True
        if self.lease.withdraw(self.call):
            self._settle(asyncio.CancelledError())
        else:
            self.call.cancel_coroutine()

    def on_refused(self) -> None:
        """Answer 503, in a task."""
        self._exchange.on_disconnect = None
        self.hops.release()
        self._calls.adopt(self._exchange, _send_busy)

    def _on_disconnect(self) -> None:
        # Of use if the view turns out to be asynchronous.
        self._has_client_gone = True
        self.call.cancel_coroutine()

    def on_head(self) -> None:
        """Send the response while the thread still closes it."""
        assert self.start is not None
        exchange = self._exchange
        if exchange.has_ended():
            return
        is_sent = False
        try:
            if len(self.content) <= self.handler.chunk_size:
                is_sent = exchange.respond(self.start, self.content)
        except Exception as error:
            self._error = error
            return
        if not is_sent:
            self._become_task()

    def on_end(self) -> None:
        """Report the end to the server, or leave a streamed response to a task."""
        raised = self.call.take_error()
        if raised is None and self.is_streamed:
            self._become_task()
            return
        error = outcome(raised, has_client_gone=self._has_client_gone)
        if error is None:
            error = self._error
        if error is None and self.is_cancelled:
            error = asyncio.CancelledError()
        self._settle(error)

    def _settle(self, error: BaseException | None) -> None:
        self._exchange.on_disconnect = None
        self.forget()
        self._error = None
        self.hops.release()
        self._calls.finish(self._exchange, error, was_cancelled=self.is_cancelled)

    def _become_task(self) -> None:
        """Leave the rest to a task: it has to wait for the client."""
        self.forget()
        self._calls.adopt(self._exchange, self._go_on)
        if self.is_cancelled:
            self._calls.cancel(self._exchange)

    async def _go_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        disconnect = Disconnect(receive)
        disconnect.listen()
        context = RequestContext(
            scope,
            send,
            self.body,
            self.route,
            self.hops,
            self.mailbox,
            disconnect,
            self.handler.chunk_size,
        )
        await run_lane(context, conclude(self, context))


async def _send_busy(scope: Scope, receive: Receive, send: Send) -> None:
    await send_busy(scope, send, "THREAD_WAIT_TIMEOUT")
