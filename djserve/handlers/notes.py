"""What only Django knows of a request, for the logs, metrics and spans that ask for it.

Nothing of this is there before one of them is opened.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from django.core.handlers.asgi import ASGIHandler as DjangoHandler
from django.core.signals import got_request_exception
from django.http import HttpRequest
from django.urls import ResolverMatch, get_script_prefix

from djserve.handlers.handler import ASGIHandler
from djserve.handlers.patches import OriginalBase, watch_resolution
from djserve.handlers.sync_lane import SyncHandler
from djserve.instrumentation.notes import DJANGO_REQUEST, EXTENSION, REQUEST

if TYPE_CHECKING:
    from djserve.instrumentation.tracing import ServerSpan

CurrentSpan = Callable[[], "ServerSpan | None"]


def note_requests() -> None:
    """Let Django's ASGI handlers note the requests that they make. Called once."""
    create_request = DjangoHandler.create_request

    @wraps(create_request)
    def noting(self: DjangoHandler, scope: Any, body_file: Any) -> Any:
        made = create_request(self, scope, body_file)
        notes = scope.get("extensions", {}).get(EXTENSION)
        if notes is not None:
            notes[REQUEST] = made[0]
        return made

    DjangoHandler.create_request = noting  # type: ignore[method-assign]


def note_views() -> None:
    """Let Django's ASGI handlers leave their requests with the scope. Called once."""
    create_request = DjangoHandler.create_request

    @wraps(create_request)
    def noting(self: DjangoHandler, scope: Any, body_file: Any) -> Any:
        made = create_request(self, scope, body_file)
        extensions = scope.get("extensions")
        if extensions is not None:
            extensions[DJANGO_REQUEST] = made[0]
        return made

    DjangoHandler.create_request = noting  # type: ignore[method-assign]


def trace_django() -> None:
    """Let Django's handlers and djserve's tell the route and the exceptions of views.

    Called once, when tracing begins.
    """
    # It imports OpenTelemetry, which is an extra, and the notes do without.
    from djserve.instrumentation.tracing import current_span

    watch = partial(_tell_route, current_span)
    watch_resolution(watch)
    for handler in (ASGIHandler, SyncHandler):
        watched = watch(handler.resolve_request)
        handler.resolve_request = watched  # type: ignore[method-assign]
    got_request_exception.connect(
        partial(_record_fault, current_span),
        weak=False,
        dispatch_uid="djserve.handlers.notes",
    )


def _tell_route(current_span: CurrentSpan, resolve: Any) -> Any:
    """Return a ``resolve_request`` that tells the span what it finds."""

    @wraps(resolve)
    def resolve_request(self: OriginalBase, request: HttpRequest) -> ResolverMatch:
        match: ResolverMatch = resolve(self, request)
        span = current_span()
        if span is not None:
            span.set_route(f"{get_script_prefix()}{match.route}")
        return match

    return resolve_request


def _record_fault(current_span: CurrentSpan, **kwargs: object) -> None:
    """Record the exception that Django is about to answer with 500."""
    span = current_span()
    error = sys.exc_info()[1]
    if span is not None and error is not None:
        span.record_fault(error)
