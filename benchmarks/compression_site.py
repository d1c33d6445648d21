"""A Django project of JSON of several sizes; BENCH_GZIP has the middleware compress."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

from djserve.handlers import get_asgi_application

ROW = '{"id": %d, "name": "user %d", "mail": "u%d@example.org", "active": true}'


def make_json(size: int) -> bytes:
    """Return a list of rows of about ``size`` bytes."""
    rows: list[str] = []
    length = 0
    while length < size:
        number = len(rows) * 7919 % 10_007
        rows.append(ROW % (number, number, number))
        length += len(rows[-1]) + 1
    return f"[{','.join(rows)}]".encode()


_contents = {kib: make_json(kib * 1024) for kib in (2, 50, 500)}


def content(request: HttpRequest, kib: int) -> HttpResponse:
    return HttpResponse(_contents[kib], content_type="application/json")


urlpatterns = [path("<int:kib>/", content)]

settings.configure(
    SECRET_KEY="only for a benchmark",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=(
        ["django.middleware.gzip.GZipMiddleware"]
        if os.environ.get("BENCH_GZIP")
        else []
    ),
)
application: Any = get_asgi_application()
