"""A request whose view is synchronous: one hop to a thread, and the answer in one back.

Signals, request, middleware, view, rendering and closing all happen in that hop. Only
streamed content comes back to the thread for its parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from django.core import signals
from django.http import HttpRequest, HttpResponseBase
from django.urls import ResolverMatch, set_script_prefix

from djserve.handlers.body import set_content_length
from djserve.handlers.chain import Stage, SyncChain
from djserve.handlers.cursors import reset_debugging
from djserve.handlers.originals import OriginalBase, OriginalHandler
from djserve.handlers.patches import resolves_as_django
from djserve.handlers.request_context import DjangoHandler, RequestContext
from djserve.handlers.responses import plan_file, send_busy, send_content, start_message
from djserve.handlers.routing import (
    Route,
    attach_route,
    reusable_match,
    script_prefix,
)
from djserve.handlers.signals import closes_as_django
from djserve.handlers.threads.hops import Call, Hops, LeasedHops
from djserve.handlers.threads.leases import Lease

if TYPE_CHECKING:
    from djserve.asgi.types import Message, Scope


class SyncHandler(OriginalHandler):
    """Answers as Django's handler does under WSGI, by the synchronous chain.

    An ``ASGIHandler`` for what agents replace in that class to take effect here too.
    Without ``stages``, Django builds the chain, and makes each middleware.
    """

    def __init__(self, stages: Iterable[Stage] | None) -> None:
        OriginalBase.__init__(self)
        if stages is None:
            self.load_middleware(is_async=False)
            return
        chain = SyncChain(self, stages)
        hooks: Any = self
        hooks._view_middleware = chain.view_middleware
        hooks._template_response_middleware = chain.template_response_middleware
        hooks._exception_middleware = chain.exception_middleware
        hooks._middleware_chain = chain.finish()

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        """Resolve a request, or use what was found when its lane was chosen."""
        match = reusable_match(request) if resolves_as_django() else None
        if match is not None:
            request.resolver_match = match
            return match
        return super().resolve_request(request)


class Work:
    """What one request does in the thread, and what it leaves for the loop.

    ``run`` is called in the thread. ``deliver`` is called there as soon as ``start``
    and ``content`` can be sent; the response is closed at the same time. A streamed
    response is left open in ``response``.
    """

    def __init__(
        self,
        handler: DjangoHandler,
        scope: Scope,
        body: IO[bytes],
        route: Route | None,
        hops: Hops,
    ) -> None:
        self.response: HttpResponseBase | None = None
        self.start: Message | None = None
        self.content = b""
        self.file_message: Message | None = None
        self.handler = handler
        self.scope = scope
        self.body = body
        self.route = route
        self.hops = hops

    @property
    def is_streamed(self) -> bool:
        """Whether there is a response that must be drawn from."""
        return self.start is None and self.response is not None

    def deliver(self) -> None:
        """Have the response sent."""
        raise NotImplementedError

    def run(self) -> None:
        """Make the response; close it, if it is not streamed."""
        response = self.response = self._get_response()
        if response.streaming:
            self.hops.hold()
            self.file_message = plan_file(self.scope, response)
            return
        self.content = response.content  # type: ignore[attr-defined]
        self.start = start_message(response)
        self.deliver()
        self.close()

    def close(self) -> None:
        """Close the response, in the thread; its signal ends the request there."""
        response = self.response
        if response is not None:
            response.close()
            if closes_as_django(response):
                self.hops.leave_tidy()
        self.body.close()

    def _get_response(self) -> HttpResponseBase:
        handler, scope = self.handler, self.scope
        sender = type(handler)
        set_script_prefix(script_prefix(scope))
        reset_debugging()
        signals.request_started.send(sender=sender, scope=scope)
        request, refusal = handler.create_request(scope, self.body)
        if request is None:
            assert refusal is not None
            return refusal
        set_content_length(request, self.body)
        attach_route(request, self.route)
        try:
            response = handler.get_response(request)
        except asyncio.CancelledError:
            # Raised by the coroutine of an asynchronous view whose client has gone.
            signals.request_finished.send(sender=sender)
            raise
        handler.adopt_response(response)
        return response


class _AwaitedWork(Work):
    """Work whose response a task waits for."""

    def __init__(self, handler: DjangoHandler, context: RequestContext) -> None:
        super().__init__(
            handler, context.scope, context.body, context.route, context.hops
        )
        self.is_refused = False
        self.head: asyncio.Future[None] = context.mailbox.loop.create_future()
        self._mailbox = context.mailbox

    def deliver(self) -> None:
        self._mailbox.put(self.settle)

    def refuse(self, lease: Lease, call: Call) -> None:
        """Do not begin any more: the call has waited for too long."""
        if lease.withdraw(call):
            self.is_refused = True
            self.settle()

    def settle(self) -> None:
        """End the waiting; called on the loop."""
        if not self.head.done():
            self.head.set_result(None)


async def serve_sync(handler: DjangoHandler, context: RequestContext) -> None:
    """Answer a request in its thread.

    The view of a client that goes away runs on to its end; its response is dropped.
    """
    work = _AwaitedWork(handler, context)
    context.disconnect.listen()
    if type(context.hops) is LeasedHops:
        lease = context.hops.lease
        call = Call(context.mailbox, work.run, ())
        call.on_finish = work.settle
        # Of use where the view turns out to be asynchronous.
        context.disconnect.on_happen = call.cancel_coroutine
        lease.on_overdue = partial(
            context.mailbox.put, partial(work.refuse, lease, call)
        )
        context.mailbox.post(lease, call)
        try:
            await work.head
        except asyncio.CancelledError:
            await call.abandon(lease)
            raise
        finally:
            lease.on_overdue = None
        if work.is_refused:
            call.forget()
            await send_busy(context.scope, context.send, "THREAD_WAIT_TIMEOUT")
            return
        await conclude(call, work, context, lease)
    else:
        await context.hops.run(work.run)
        await _send_whole(work, context)
        await _send_streamed(work, context)


async def conclude(
    call: Call, work: Work, context: RequestContext, lease: Lease
) -> None:
    """Send the response of work that has one, while the thread still closes it."""
    call.restore_context()
    try:
        await _send_whole(work, context)
    finally:
        await _finish(call, context, lease)
    await _send_streamed(work, context)


async def _finish(call: Call, context: RequestContext, lease: Lease) -> None:
    context.disconnect.on_happen = None
    try:
        if call.has_ended:
            call.result()
        else:
            await call.wait(lease)
    except asyncio.CancelledError:
        # Raised by the view's coroutine because of us, or else by our own server.
        if not context.disconnect.happened:
            raise


async def _send_whole(work: Work, context: RequestContext) -> None:
    if work.start is not None and not context.disconnect.happened:
        await context.send(work.start)
        await send_content(context.send, work.content, context.chunk_size)


async def _send_streamed(work: Work, context: RequestContext) -> None:
    if work.response is not None and work.is_streamed:
        try:
            stream = context.stream(work.response, work.file_message)
            await context.disconnect.cancels(stream)
        finally:
            await context.hops.run(work.close)
    context.disconnect.check()
