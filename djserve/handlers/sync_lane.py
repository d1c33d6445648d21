"""A request whose view is synchronous: one hop to a thread, and the answer in one back.

Signals, request, middleware, view, rendering and closing all happen in that hop. Only
streamed content comes back to the thread for its parts.
"""

# One hop, and what belongs to it
#
# Django's handler for ASGI may go to a thread and back several times for a request: for
# signals, for middleware, for the view, for the response's end. A hop costs more than
# many views do. Here the request goes into a thread once, and everything synchronous
# happens there, in the order in which WSGI has it.
#
# The answer does not wait for the end of the hop. When the content is known
# (``deliver``) the loop sends it, while the thread still closes the response: what
# receivers of ``request_finished`` do costs the client no time. The call has not ended
# by then, so the lease stays, and an exception from here on cannot change the response;
# it is logged.
#
# A streamed response is left open. Its parts are drawn in the same thread, which is
# held for it (``hops.hold``): a generator that reads from a database has its cursor
# there.
#
# ``LeasedWork`` is that hop for both ways to it: with a task (``_AwaitedWork``) and
# without one (``direct``). It is told three things, on the loop, and never two that
# contradict each other:
#
# - ``on_head``: the response can be sent. Before ``on_end``, and not at all if there is
#   nothing to send yet: the view has raised, or the response is streamed.
# - ``on_end``: the call has ended. What it raised is judged by ``outcome`` alone.
# - ``on_refused``: no thread came free in time. The job was withdrawn from its lease
#   first, and a lease gives a job away only once, so it neither has run nor will.
#
# A view whose client has gone runs to its end, as under WSGI: a thread cannot be
# stopped. If the view is asynchronous after all, its coroutine is cancelled instead.

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextvars import Context
from typing import IO, TYPE_CHECKING, Any

from django.core import signals
from django.http import HttpRequest, HttpResponseBase
from django.urls import ResolverMatch, set_script_prefix

from djserve.handlers.body import set_content_length
from djserve.handlers.chain import Stage, SyncChain
from djserve.handlers.cursors import end_forgotten_transactions, reset_debugging
from djserve.handlers.patches import OriginalBase, OriginalHandler, resolves_as_django
from djserve.handlers.request_context import DjangoHandler, RequestContext
from djserve.handlers.responses import plan_file, send_busy, send_content, start_message
from djserve.handlers.routing import (
    Route,
    attach_route,
    reusable_match,
    script_prefix,
)
from djserve.handlers.signals import closes_as_django
from djserve.handlers.threads.hops import (
    Call,
    Hops,
    LeasedHops,
    forget_closed_loop,
)
from djserve.handlers.twins import standing_in

if TYPE_CHECKING:
    from djserve.asgi.types import Message, Scope


class SyncHandler(OriginalHandler):
    """Answers as Django's handler does under WSGI, by the synchronous chain.

    An ``ASGIHandler`` for what agents replace in that class to take effect here too.
    Without ``stages``, Django builds the chain, and makes each middleware. ``twins``
    has the classes that stand in for those that exist already.
    """

    def __init__(
        self, stages: Iterable[Stage] | None, twins: Mapping[str, type] | None = None
    ) -> None:
        OriginalBase.__init__(self)
        if stages is None:
            with standing_in(twins or {}):
                self.load_middleware(is_async=False)
            return
        chain = SyncChain(self, stages, twins or {})
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
        """Have the response sent; left undone here, since ``run`` is waited for."""

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
            if isinstance(self.hops, LeasedHops):
                end_forgotten_transactions(closes_cursors=True)
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


class LeasedWork(Work):
    """Work that is a call in the thread of a lease: the one job of both ways to it.

    What waits for it (``_AwaitedWork``, ``DirectCall``) is told on the loop, by
    ``on_head``, ``on_end`` and ``on_refused``.
    """

    def __init__(
        self,
        handler: DjangoHandler,
        scope: Scope,
        body: IO[bytes],
        route: Route | None,
        hops: LeasedHops,
        context: Context | None = None,
    ) -> None:
        super().__init__(handler, scope, body, route, hops)
        self.mailbox = hops.mailbox
        self.lease = lease = hops.lease
        self.call = call = Call(hops.mailbox, self.run, (), context=context)
        call.on_finish = self.on_end
        lease.on_overdue = self._on_overdue

    def post(self) -> None:
        """Have the work done, from the loop's next turn on."""
        self.mailbox.post(self.lease, self.call)

    def on_head(self) -> None:
        """The response can be sent."""
        raise NotImplementedError

    def on_end(self) -> None:
        """The call has ended, in any way; ``outcome`` judges it."""
        raise NotImplementedError

    def on_refused(self) -> None:
        """The call has waited for a thread for too long and will not begin."""
        raise NotImplementedError

    def run(self) -> None:
        """Make the response; close it, if it is not streamed."""
        # It would keep the lease and this work alive by each other.
        self.lease.on_overdue = None
        forget_closed_loop()
        super().run()

    def deliver(self) -> None:
        self.mailbox.put(self.on_head)

    def forget(self) -> None:
        """Leave no cycle with the call or the lease, at the end of both."""
        self.lease.on_overdue = None
        self.call.forget()

    def _on_overdue(self) -> None:
        """Called by the pool's watcher: the call has waited for too long."""
        self.mailbox.put(self._refuse)

    def _refuse(self) -> None:
        if self.lease.withdraw(self.call):
            self.forget()
            self.on_refused()


def outcome(
    error: BaseException | None, *, has_client_gone: bool
) -> BaseException | None:
    """Return what a call that has raised ``error`` leaves to its request, if anything.

    CancelledError comes from the coroutine of an asynchronous view, which the thread
    waited for. It was cancelled since its client has gone, and then there is no one to
    be told; or else by the server, which asked for it and is told. Any other error is
    the application's (StopIteration is another by now: see ``Call``).
    """
    if has_client_gone and isinstance(error, asyncio.CancelledError):
        return None
    return error


class _AwaitedWork(LeasedWork):
    """Work whose response a task waits for."""

    def __init__(
        self, handler: DjangoHandler, context: RequestContext, hops: LeasedHops
    ) -> None:
        super().__init__(handler, context.scope, context.body, context.route, hops)
        self._is_refused = False
        self._head: asyncio.Future[None] = hops.mailbox.loop.create_future()

    async def wait(self) -> bool:
        """Return once there is a response or the call has ended; False if refused."""
        try:
            await self._head
        except asyncio.CancelledError:
            await self.call.abandon(self.lease)
            raise
        finally:
            self.lease.on_overdue = None
        return not self._is_refused

    def on_head(self) -> None:
        if not self._head.done():
            self._head.set_result(None)

    on_end = on_head

    def on_refused(self) -> None:
        self._is_refused = True
        self.on_head()


async def serve_sync(handler: DjangoHandler, context: RequestContext) -> None:
    """Answer a request in its thread.

    The view of a client that goes away runs on to its end; its response is dropped.
    """
    hops = context.hops
    if type(hops) is LeasedHops:
        await _serve_leased(_AwaitedWork(handler, context, hops), context)
        return
    work = Work(handler, context.scope, context.body, context.route, hops)
    context.disconnect.listen()
    await hops.run(work.run)
    await _send_whole(work, context)
    await _send_streamed(work, context)


async def _serve_leased(work: _AwaitedWork, context: RequestContext) -> None:
    disconnect = context.disconnect
    disconnect.listen()
    # Of use if the view turns out to be asynchronous.
    disconnect.on_happen = work.call.cancel_coroutine
    work.post()
    try:
        if await work.wait():
            await conclude(work, context)
        else:
            await send_busy(context.scope, context.send, "THREAD_WAIT_TIMEOUT")
    finally:
        work.forget()


async def conclude(work: LeasedWork, context: RequestContext) -> None:
    """Send the response of work that has one, while the thread still closes it."""
    work.call.restore_context()
    try:
        await _send_whole(work, context)
    finally:
        await _finish(work, context)
    await _send_streamed(work, context)


async def _finish(work: LeasedWork, context: RequestContext) -> None:
    call = work.call
    context.disconnect.on_happen = None
    try:
        if call.has_ended:
            call.result()
        else:
            await call.wait(work.lease)
    except BaseException as error:
        has_gone = context.disconnect.happened
        if outcome(error, has_client_gone=has_gone) is not None:
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
