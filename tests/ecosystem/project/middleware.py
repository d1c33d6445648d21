"""A middleware that many projects have: the time zone of the request's user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.decorators import sync_and_async_middleware


@sync_and_async_middleware
def zone_middleware(get_response: Callable[[HttpRequest], Any]) -> Any:
    """Activate the zone that a request names, and leave it where none is named.

    It never deactivates a zone, as many do not.
    """
    if iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> Any:
            _activate(request)
            return await get_response(request)

        return asynchronous

    def synchronous(request: HttpRequest) -> Any:
        _activate(request)
        return get_response(request)

    return synchronous


def _activate(request: HttpRequest) -> None:
    if zone := request.headers.get("X-Zone"):
        timezone.activate(zone)
