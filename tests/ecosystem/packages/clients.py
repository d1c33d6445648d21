"""A project for real clients: uploads, a file to seek in, Socket.IO, a page."""

from __future__ import annotations

import wave
from typing import Any

from tests.ecosystem.package import Package, folder

SECONDS = 60
RATE = 22_050

PAGE = """<!doctype html>
<title>Clients</title>
<video src="/media/sound.wav" preload="metadata" muted></video>
<p></p>
"""


class Clients(Package):
    """What ``test_clients.py`` has real clients talk to."""

    name = "clients"
    settings = {"ALLOWED_HOSTS": ["127.0.0.1"]}

    def start(self) -> None:
        with wave.open(str(folder() / "sound.wav"), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(RATE)
            sound.writeframes(bytes(2 * RATE * SECONDS))

    def urls(self) -> list[Any]:
        from django.http import FileResponse, HttpResponse, JsonResponse
        from django.urls import path
        from django.views.decorators.csrf import csrf_exempt

        def page(request: Any) -> Any:
            return HttpResponse(PAGE)

        def media(request: Any) -> Any:
            ranges = folder() / "ranges"
            with ranges.open("a") as file:
                file.write(request.headers.get("Range", "") + "\n")
            return FileResponse((folder() / "sound.wav").open("rb"))

        @csrf_exempt
        def upload(request: Any) -> Any:
            files = {name: file.size for name, file in request.FILES.items()}
            return JsonResponse({"files": files, "fields": request.POST.dict()})

        @csrf_exempt
        def put(request: Any) -> Any:
            return JsonResponse({"size": len(request.body)})

        @csrf_exempt
        async def aput(request: Any) -> Any:
            return JsonResponse({"size": len(request.body)})

        return [
            path("page/", page),
            path("media/sound.wav", media),
            path("upload/", upload),
            path("put/", put),
            path("aput/", aput),
        ]

    def wrap(self, application: Any) -> Any:
        import socketio

        server = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*")

        @server.event
        async def ask(sid: str, data: Any) -> Any:
            return {"asked": data}

        @server.event
        async def tell(sid: str, data: Any) -> None:
            await server.emit("told", data, to=sid)

        return socketio.ASGIApp(server, application)
