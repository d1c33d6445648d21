"""A request whose view is asynchronous: all of it on the loop that can be.

Middleware goes to the request's thread only if it must (``layers``); a request that
needs no thread takes none.
"""

from __future__ import annotations

import asyncio

from django.core import signals
from django.http import FileResponse, HttpRequest, HttpResponseBase
from django.urls import set_script_prefix

from djserve.handlers.body import set_content_length
from djserve.handlers.cursors import end_forgotten_transactions
from djserve.handlers.request_context import DjangoHandler, RequestContext
from djserve.handlers.responses import plan_file, send_content, start_message
from djserve.handlers.routing import attach_route, script_prefix
from djserve.handlers.signals import closes_plainly, starts_plainly
from djserve.handlers.threads.asgiref_compat import forget_ended_threads
from djserve.handlers.threads.hops import LeasedHops


class _Answer:
    """The response of a request, as soon as there is one."""

    response: HttpResponseBase | None = None


async def serve_async(handler: DjangoHandler, context: RequestContext) -> None:
    """Answer a request on the loop."""
    sender = type(handler)
    set_script_prefix(script_prefix(context.scope))
    # Django's own receivers run in the thread once one is taken (prepare_thread).
    if not (isinstance(context.hops, LeasedHops) and starts_plainly()):
        await signals.request_started.asend(sender=sender, scope=context.scope)
    request, refusal = handler.create_request(context.scope, context.body)
    if request is None:
        assert refusal is not None
        await _send(context, refusal)
        await context.hops.run(refusal.close)
        return
    set_content_length(request, context.body)
    attach_route(request, context.route)
    answer = _Answer()
    try:
        await context.disconnect.cancels(_respond(handler, context, request, answer))
    except BaseException as error:
        # Like Django: an exception that nobody has turned into a response ends the
        # request without its signal.
        if answer.response is not None or isinstance(error, asyncio.CancelledError):
            await _end(handler, context, request, answer)
        raise
    await _end(handler, context, request, answer)


async def _respond(
    handler: DjangoHandler,
    context: RequestContext,
    request: HttpRequest,
    answer: _Answer,
) -> None:
    response = answer.response = await handler.run_get_response(request)
    await _send(context, response)


async def _send(context: RequestContext, response: HttpResponseBase) -> None:
    if not response.streaming:
        content: bytes = response.content  # type: ignore[attr-defined]
        await context.send(start_message(response))
        await send_content(context.send, content, context.chunk_size)
        return
    file_message = None
    if isinstance(response, FileResponse):
        # The file system is asked in a thread.
        file_message = await context.hops.run(plan_file, context.scope, response)
    await context.stream(response, file_message)


async def _end(
    handler: DjangoHandler,
    context: RequestContext,
    request: HttpRequest,
    answer: _Answer,
) -> None:
    """Close the response; send the signal for it, if there is none."""
    response = answer.response
    forget_ended_threads()
    hops = context.hops
    if response is None:
        await signals.request_finished.asend(sender=type(handler))
        if hops.was_used and isinstance(hops, LeasedHops):
            await hops.run(end_forgotten_transactions)
    elif not hops.was_used and closes_plainly(request, response):
        response.close()
    elif isinstance(hops, LeasedHops):
        await hops.run(_close, response)
    else:
        await hops.run(response.close)


def _close(response: HttpResponseBase) -> None:
    """Close a response in its request's own thread."""
    response.close()
    end_forgotten_transactions()
