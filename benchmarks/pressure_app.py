"""What ``benchmarks.pressure`` puts its clients on: uploads, downloads, WebSockets.

Uploads go to Django, with djserve's handler or Django's own; all else is plain ASGI.
"""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

from benchmarks import apps

DOWNLOAD = bytes(64 * 2**20)


def upload(request: HttpRequest) -> HttpResponse:
    size = sum(len(part) for part in iter(lambda: request.read(2**20), b""))
    return HttpResponse(str(size))


urlpatterns = [path("upload/", upload)]

settings.configure(
    SECRET_KEY="only for a benchmark",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[],
    DATABASES={},
)


def _make_django() -> Any:
    if os.environ.get("PRESSURE_HANDLER") == "djserve":
        from djserve.handlers import get_asgi_application

        return get_asgi_application()
    from django.core.asgi import get_asgi_application as get_stock

    return get_stock()


django = _make_django()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Route by path."""
    if scope["type"] == "websocket":
        await apps.echo(scope, receive, send)
    elif scope["type"] == "http" and scope["path"] == "/upload/":
        await django(scope, receive, send)
    elif scope["type"] == "http" and scope["path"] == "/download/":
        length = (b"content-length", str(len(DOWNLOAD)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": DOWNLOAD})
    else:
        await apps.hello(scope, receive, send)
