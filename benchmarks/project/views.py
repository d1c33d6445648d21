"""The views that every server is measured with."""

from __future__ import annotations

from django.contrib.auth.models import User
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
