"""A project whose views are slow, or leave things behind in their threads."""

from __future__ import annotations

import decimal
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse

FOLDER = Path(os.environ.get("SLOW_SITE", "."))

settings.configure(
    SECRET_KEY="for tests only",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="tests.e2e.slow_site",
    ASGI_APPLICATION="tests.e2e.slow_site.application",
    USE_TZ=True,
    INSTALLED_APPS=[
        "djserve",
        "channels",
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "django.contrib.sessions",
    ],
    MIDDLEWARE=["tests.e2e.slow_site.leave_traces"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(FOLDER / "db.sqlite3"),
            "CONN_MAX_AGE": 600,
        }
    },
)
django.setup()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.generic.websocket import WebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.db import connection  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone, translation  # noqa: E402

LOCAL = threading.local()


def describe() -> dict[str, Any]:
    """Return what the running code finds in its surroundings."""
    return {
        "user": getattr(LOCAL, "user", None),
        "language": translation.get_language(),
        "time zone": timezone.get_current_timezone_name(),
        "precision": decimal.getcontext().prec,
        "debugging": connection.force_debug_cursor,
    }


def leave_traces(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        if "leave" in request.GET:
            LOCAL.user = request.GET["leave"]
            translation.activate("de")
            timezone.activate("Asia/Tokyo")
            decimal.getcontext().prec = 3
            connection.force_debug_cursor = True
            connection.ensure_connection()
        return get_response(request)

    return middleware


def slow(request: HttpRequest) -> HttpResponse:
    time.sleep(float(request.GET["seconds"]))
    return HttpResponse("slow")


def quick(request: HttpRequest) -> HttpResponse:
    return HttpResponse("quick")


def surroundings(request: HttpRequest) -> JsonResponse:
    return JsonResponse(describe())


def events(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[str]:
        while True:
            yield "data: event\n\n"
            time.sleep(0.2)

    return StreamingHttpResponse(parts(), content_type="text/event-stream")


urlpatterns = [
    path("slow/", slow),
    path("quick/", quick),
    path("surroundings/", surroundings),
    path("events/", events),
]


class Consumer(WebsocketConsumer):
    def receive(self, text_data: str | None = None, bytes_data: Any = None) -> None:
        self.send(text_data=JsonResponse(describe()).content.decode())


application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AuthMiddlewareStack(URLRouter([path("ws/", Consumer.as_asgi())])),
    }
)
