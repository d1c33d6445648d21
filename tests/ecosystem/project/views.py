"""Six kinds of views; each shows whose request it takes this one for."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils import timezone, translation

PARTS = 3
# Long enough that requests of several users are in the views at the same time.
PAUSE = 0.02

who: ContextVar[str] = ContextVar("who", default="")


class Failure(Exception):
    """A fault of a view; its text is the user's name."""


def surroundings(name: str) -> dict[str, str]:
    """Return what a view sees of its user, language and time zone."""
    before = who.get()
    who.set(name)
    return {
        "who": name,
        "before": before,
        "language": translation.get_language() or "",
        "zone": timezone.get_current_timezone_name(),
    }


def describe(request: HttpRequest, name: str) -> dict[str, Any]:
    return {**surroundings(name), "seen": settings.PACKAGE.look(request)}


def sync_view(request: HttpRequest) -> HttpResponse:
    name = request.user.get_username()
    found = describe(request, name)
    time.sleep(PAUSE)
    found["seen"].update(settings.PACKAGE.work(request))
    found["who"] = who.get()
    return page(found)


async def async_view(request: HttpRequest) -> HttpResponse:
    name = (await request.auser()).get_username()
    found = describe(request, name)
    await asyncio.sleep(PAUSE)
    found["seen"].update(await sync_to_async(settings.PACKAGE.work)(request))
    found["who"] = who.get()
    return page(found)


def sync_raising(request: HttpRequest) -> HttpResponse:
    name = request.user.get_username()
    describe(request, name)
    time.sleep(PAUSE)
    raise Failure(name)


async def async_raising(request: HttpRequest) -> HttpResponse:
    name = (await request.auser()).get_username()
    describe(request, name)
    await asyncio.sleep(PAUSE)
    raise Failure(name)


def sync_stream(request: HttpRequest) -> StreamingHttpResponse:
    name = request.user.get_username()
    found = describe(request, name)

    def parts() -> Iterator[str]:
        for _ in range(PARTS):
            time.sleep(PAUSE / PARTS)
            yield json.dumps(found) + "\n"

    return StreamingHttpResponse(parts(), content_type="application/jsonl")


async def async_stream(request: HttpRequest) -> StreamingHttpResponse:
    name = (await request.auser()).get_username()
    found = describe(request, name)

    async def parts() -> AsyncIterator[str]:
        for _ in range(PARTS):
            await asyncio.sleep(PAUSE / PARTS)
            yield json.dumps(found) + "\n"

    return StreamingHttpResponse(parts(), content_type="application/jsonl")


def page(found: dict[str, Any]) -> HttpResponse:
    """Return a response that tells what was found, as JSON in a page."""
    body = f"<html><body><pre>{json.dumps(found)}</pre></body></html>"
    return HttpResponse(body)
