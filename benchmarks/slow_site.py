"""The project of ``benchmarks.slow_views``: views that wait, and some that do not."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

_SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": str(Path(os.environ.get("BENCH_FOLDER", "."), "db.sqlite3")),
    "CONN_MAX_AGE": 60,
}
_POSTGRESQL: dict[str, Any] = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "postgres",
    "USER": "postgres",
    "HOST": os.environ.get("BENCH_POSTGRESQL_SOCKET", ""),
    "CONN_MAX_AGE": int(os.environ.get("BENCH_AGE", "60")),
}
if os.environ.get("BENCH_POOL"):
    _POSTGRESQL |= {
        "CONN_MAX_AGE": 0,
        "OPTIONS": {"pool": {"max_size": int(os.environ["BENCH_POOL"])}},
    }

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        ASGI_APPLICATION="benchmarks.slow_site.application",
        DATABASES={"default": _POSTGRESQL if _POSTGRESQL["HOST"] else _SQLITE},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "djserve",
            "channels",
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
        ],
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        ROOT_URLCONF="benchmarks.slow_site",
        SECRET_KEY="only the benchmarks use this key, and it keeps nothing secret",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        USE_TZ=True,
        WSGI_APPLICATION="benchmarks.slow_site.wsgi",
    )
    django.setup()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.generic.websocket import WebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.contrib import admin  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import path  # noqa: E402


def fast(request: HttpRequest) -> HttpResponse:
    return HttpResponse("fast")


def slow(request: HttpRequest) -> HttpResponse:
    time.sleep(float(request.GET.get("seconds", "2")))
    return HttpResponse("slow")


def query(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{User.objects.count()} users")


async def query_and_wait(request: HttpRequest) -> HttpResponse:
    count = await User.objects.acount()
    await asyncio.sleep(float(request.GET.get("seconds", "5")))
    return HttpResponse(f"{count} users")


def events(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[str]:
        for _ in range(int(request.GET.get("count", "1000"))):
            yield "data: event\n\n"
            time.sleep(1)

    return StreamingHttpResponse(parts(), content_type="text/event-stream")


class Echo(WebsocketConsumer):  # type: ignore[misc] # Channels has no types
    """Answers each message after a query."""

    def receive(self, text_data: str | None = None, bytes_data: Any = None) -> None:
        self.send(text_data=str(User.objects.count()))


urlpatterns = [
    path("fast/", fast),
    path("slow/", slow),
    path("query/", query),
    path("query-and-wait/", query_and_wait),
    path("events/", events),
    path("admin/", admin.site.urls),
    *(
        # Views of their own, though they do the same.
        path(f"other/{number}/", lambda request, number=number: HttpResponse("other"))
        for number in range(10)
    ),
]
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AuthMiddlewareStack(URLRouter([path("ws/", Echo.as_asgi())])),
    }
)
wsgi = get_wsgi_application()
