"""Requests of the synchronous lane without a task, where djserve itself is the server.

A request that is complete when it begins, and a response that is small and whole: the
loop only hands the one to a thread, and sends the other. There is nothing to wait for,
so no coroutine waits (benchmark: django_sync). Whatever turns out to be more is left to
a task, which does the rest as the plain lane does.
"""

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
from djserve.handlers.sync_lane import Work, conclude
from djserve.handlers.threads.hops import CURRENT, Call, LeasedHops, enter_lease

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
        if handler.is_overloaded() or not urls_are_imported():
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


class DirectCall(Work):
    """One request on its way through a thread. All but ``run`` belongs to the loop."""

    def __init__(
        self,
        handler: DjangoHandler,
        exchange: HTTPExchange,
        calls: ApplicationCalls,
        route: Route | None,
        context: Context,
    ) -> None:
        mailbox = self._mailbox = handler.current_mailbox()
        lease = self._lease = make_lease(handler.pool, *view_of(route))
        lease.on_overdue = self._on_overdue
        content: bytes = exchange.take_content()["body"]
        super().__init__(
            handler, exchange.scope, BytesIO(content), route, LeasedHops(lease, mailbox)
        )
        self._exchange = exchange
        self._calls = calls
        self._error: BaseException | None = None
        self._has_client_gone = False
        self.is_cancelled = False
        """Whether the server wants the call to end."""
        self._call = call = Call(mailbox, self.run, (), context=context)
        call.on_finish = self._on_end
        exchange.on_disconnect = self._on_disconnect
        mailbox.post(lease, call)

    def run(self) -> None:
        """Make the response, in the thread and the request's own context."""
        # It would keep the lease and this call alive by each other.
        self._lease.on_overdue = None
        CURRENT.set(self.hops)
        enter_lease(self._lease)
        super().run()

    def deliver(self) -> None:
        self._mailbox.put(self._on_head)

    def cancel(self) -> None:
        """End soon: at once where it has not begun, else as soon as its thread ends."""
        self.is_cancelled = True
        if self._lease.withdraw(self._call):
            self._settle(asyncio.CancelledError())
        else:
            self._call.cancel_coroutine()

    def _on_overdue(self) -> None:
        """Called by the pool's watcher: the call has waited for too long."""
        self._mailbox.put(self._refuse)

    def _refuse(self) -> None:
        if self._lease.withdraw(self._call):
            self._exchange.on_disconnect = self._lease.on_overdue = None
            self._call.forget()
            self.hops.release()
            self._calls.adopt(self._exchange, _send_busy)

    def _on_disconnect(self) -> None:
        # Of use where the view turns out to be asynchronous.
        self._has_client_gone = True
        self._call.cancel_coroutine()

    def _on_head(self) -> None:
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

    def _on_end(self) -> None:
        try:
            self._call.result()
        except asyncio.CancelledError as error:
            # Raised by the view's coroutine because of us, or else by our own server.
            if not self._has_client_gone:
                self._error = error
        except BaseException as error:
            self._error = error
        else:
            if self.is_streamed:
                self._become_task()
                return
            if self.is_cancelled and self._error is None:
                self._error = asyncio.CancelledError()
        self._settle(self._error)

    def _settle(self, error: BaseException | None) -> None:
        self._exchange.on_disconnect = None
        self._lease.on_overdue = None
        self._call.forget()
        self._error = None
        self.hops.release()
        self._calls.finish(self._exchange, error, was_cancelled=self.is_cancelled)

    def _become_task(self) -> None:
        """Leave the rest to a task: it has to wait for the client."""
        self._call.forget()
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
            self._mailbox,
            disconnect,
            self.handler.chunk_size,
        )
        await run_lane(context, conclude(self._call, self, context, self._lease))


async def _send_busy(scope: Scope, receive: Receive, send: Send) -> None:
    await send_busy(scope, send, "THREAD_WAIT_TIMEOUT")
