"""The application that the faults are done to; its file is edited between reloads."""

from __future__ import annotations

from tests.support.exceptions import FAIL

_IMPORTS = """
import asyncio
import os
import signal
import subprocess
import time

"""

_REST = """
async def read(receive):
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            return size


async def serve_websocket(path, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await receive()
    fail(path.rpartition("/")[2])


async def application(scope, receive, send):
    path = scope["path"]
    if scope["type"] == "websocket":
        await serve_websocket(path, receive, send)
        return
    if scope["type"] == "lifespan":
        raise NotImplementedError
    body = b"ok"
    if path.startswith("/raise/"):
        fail(path.rpartition("/")[2])
    if path.startswith("/kill/"):
        os.kill(os.getpid(), int(path.rpartition("/")[2]))
    if path == "/exit":
        os._exit(0)
    if path == "/block":
        open("begun", "w").close()
        time.sleep(600)
    if path == "/wait":
        open("begun", "w").close()
        await asyncio.sleep(600)
    if path == "/orphan":
        subprocess.run(["sh", "-c", "sleep 0.1 >/dev/null 2>&1 &"])
    if path == "/memory":
        body = b"%d" % len(b"x" * (1 << 40))
    if path == "/big":
        body = b"%d" % len(b"x" * 300_000_000)
    if path == "/read":
        body = b"%d" % await read(receive)
    if path == "/within":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        fail("ValueError")
    if path == "/redis":
        body = await ask_redis()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def ask_redis():
    import redis.asyncio
    async with redis.asyncio.Redis(port=int(os.environ["REDIS_PORT"])) as client:
        return b"%d" % await client.incr("key")
"""

SOURCE = _IMPORTS + FAIL + _REST

DJANGO_SOURCE = """
import os
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="for faults", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__,
    FILE_UPLOAD_MAX_MEMORY_SIZE=65536, DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    LOGGING={
        "version": 1, "disable_existing_loggers": False,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "loggers": {"django.request": {"handlers": ["console"], "level": "ERROR"}},
    },
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": "postgres",
        "USER": "postgres", "HOST": os.environ.get("PG_HOST", ""),
    }},
)
django.setup()
from django.db import connection
from django.http import HttpResponse
from django.urls import path
from djserve.handlers import get_asgi_application


def query(request, statement="SELECT 1"):
    with connection.cursor() as cursor:
        cursor.execute(statement)
    return HttpResponse("ok")


def sleep(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        open("begun", "w").close()
        cursor.execute("SELECT pg_sleep(600)")
    return HttpResponse("ok")


urlpatterns = [
    path("", lambda request: HttpResponse("ok")),
    path("database", query),
    path("sleep", sleep),
    path("upload", lambda request: HttpResponse(str(len(request.body)))),
]
application = get_asgi_application()
"""
"""A project of Django's, for what djserve's handler is there for."""

BROKEN = {
    "syntax error": "def (",
    "exception": "raise ValueError('planned')",
    "exit": "import sys; sys.exit(0)",
    "hang": "import time; open('loading', 'w').close(); time.sleep(600)",
    "no application": "apple = 1",
    "start-up": """
async def application(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "planned"})
""",
    "start-up that hangs": """
import asyncio
async def application(scope, receive, send):
    assert scope["type"] == "lifespan"
    await asyncio.sleep(600)
""",
}
"""Code that does not come to serve, and why."""
