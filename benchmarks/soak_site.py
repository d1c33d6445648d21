"""What the soak asks for: quick and slow answers, uploads, an echo, a blocked loop."""

from __future__ import annotations

import asyncio
import time

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from benchmarks.project import views
from benchmarks.project.channels import EchoConsumer

SLOW_TIME = 0.25
FOR_GOOD = 3600


async def slow(request: HttpRequest) -> HttpResponse:
    """Answer after a while: at any time some requests are under way."""
    await asyncio.sleep(SLOW_TIME)
    return HttpResponse("slow")


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.body)))


async def block(request: HttpRequest) -> HttpResponse:
    """Block the event loop, as a call that should have been in a thread does."""
    time.sleep(FOR_GOOD)  # noqa: ASYNC251 # that is the fault to be found
    return HttpResponse("never")


urlpatterns = [
    path("sync/", views.sync),
    path("async/", views.asynchronous),
    path("query/", views.query),
    path("slow/", slow),
    path("upload/", upload),
    path("block/", block),
]

application = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": EchoConsumer.as_asgi()}
)
