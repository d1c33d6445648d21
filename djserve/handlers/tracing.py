"""What only Django knows of a request, for the span that the server has made of it.

Nothing of this is there before tracing begins.
"""

from __future__ import annotations

import sys
from functools import wraps
from typing import Any

from django.core.signals import got_request_exception
from django.http import HttpRequest
from django.urls import ResolverMatch, get_script_prefix

from djserve.handlers.handler import ASGIHandler
from djserve.handlers.patches import OriginalBase, watch_resolution
from djserve.handlers.sync_lane import SyncHandler
from djserve.instrumentation.tracing import current_span


def trace_django() -> None:
    """Let Django's handlers and djserve's tell the route and the exceptions of views.

    Called once, when tracing begins.
    """
    watch_resolution(_tell_route)
    for handler in (ASGIHandler, SyncHandler):
        watched = _tell_route(handler.resolve_request)
        handler.resolve_request = watched  # type: ignore[method-assign]
    got_request_exception.connect(
        _record_fault, dispatch_uid="djserve.handlers.tracing"
    )


def _tell_route(resolve: Any) -> Any:
    """Return a ``resolve_request`` that tells the span what it finds."""

    @wraps(resolve)
    def resolve_request(self: OriginalBase, request: HttpRequest) -> ResolverMatch:
        match: ResolverMatch = resolve(self, request)
        span = current_span()
        if span is not None:
            span.set_route(f"{get_script_prefix()}{match.route}")
        return match

    return resolve_request


def _record_fault(**kwargs: object) -> None:
    """Record the exception that Django is about to answer with 500."""
    span = current_span()
    error = sys.exc_info()[1]
    if span is not None and error is not None:
        span.record_fault(error)
