"""The views that every server is measured with."""

from __future__ import annotations

import asyncio
import itertools
import time

from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponse


def sync(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Hello, world!")


async def asynchronous(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Hello, world!")


def query(request: HttpRequest) -> HttpResponse:
    """Read one row by its unique key."""
    return HttpResponse(User.objects.get(username="someone").username)


def session(request: HttpRequest) -> HttpResponse:
    """Write the session, which is a new one for a client without cookies."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse("Hello, world!")


def slow(request: HttpRequest) -> HttpResponse:
    """Block the thread for a second, as a slow database would."""
    time.sleep(1)
    return HttpResponse("Hello, world!")


def to_async(request: HttpRequest) -> HttpResponse:
    """Wait in the thread for the loop."""
    async_to_sync(asyncio.sleep)(0.05)
    return HttpResponse("Hello, world!")


async def to_thread(request: HttpRequest) -> HttpResponse:
    """Wait on the loop for a thread."""
    await sync_to_async(time.sleep)(0.05)
    return HttpResponse("Hello, world!")


_opened = itertools.count(1)
_connections = 0


def _count(**kwargs: object) -> None:
    global _connections
    _connections = next(_opened)


connection_created.connect(_count)


async def connections(request: HttpRequest) -> HttpResponse:
    """Tell how many database connections the process has opened."""
    return HttpResponse(str(_connections))


def reported(request: HttpRequest) -> HttpResponse:
    """Tell how many requests the process's agent has reported."""
    from benchmarks.project import traced

    return HttpResponse(str(traced.reported))
