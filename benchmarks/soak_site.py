"""What the soak asks for: quick and slow answers, streams, uploads, an echo."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
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


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Send 16 MiB, as fast as they are taken."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(2048):
            yield bytes(8192)

    return StreamingHttpResponse(parts())


async def events(request: HttpRequest) -> StreamingHttpResponse:
    """Send events until the client leaves."""

    async def parts() -> AsyncIterator[str]:
        while True:
            yield "data: event\n\n"
            await asyncio.sleep(0.1)

    return StreamingHttpResponse(parts(), content_type="text/event-stream")


async def vitals(request: HttpRequest) -> JsonResponse:
    """Count what this worker holds, garbage apart."""
    gc.collect()
    return JsonResponse(
        {
            "process": os.getpid(),
            "tasks": len(asyncio.all_tasks()),
            "objects": len(gc.get_objects()),
        }
    )


urlpatterns = [
    path("sync/", views.sync),
    path("async/", views.asynchronous),
    path("query/", views.query),
    path("slow/", slow),
    path("upload/", upload),
    path("block/", block),
    path("stream/", stream),
    path("events/", events),
    path("vitals/", vitals),
]

application = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": EchoConsumer.as_asgi()}
)
