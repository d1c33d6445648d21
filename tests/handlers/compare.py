"""Serve the project with one handler and print what happened, as JSON.

    python compare.py django|djserve|direct

``test_handler.py`` runs it with all and compares; "direct" is djserve's handler behind
the exchanges of its own server. Each scenario returns what must be
the same; a process of its own gives each handler fresh threads, connections and caches.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.test.utils import override_settings

sys.path.insert(0, str(Path(__file__).parent))

configuration: Any = importlib.import_module("configuration")
folder = tempfile.TemporaryDirectory()
settings.configure(**configuration.make_settings(folder.name))
django.setup(set_prefix=False)
project: Any = importlib.import_module("project")
carried: Any = importlib.import_module("carried")

HANDLER = sys.argv[1] if len(sys.argv) > 1 else "djserve"
SCENARIOS: dict[str, Callable[[], Awaitable[Any]]] = {}

Scenario = Callable[[], Awaitable[Any]]


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


def make_application(**changes: Any) -> Any:
    """Return the handler under other settings, which stay until the next call."""
    global overridden
    overridden.disable()
    overridden = override_settings(**changes)
    overridden.enable()
    if HANDLER == "django":
        from django.core.handlers.asgi import ASGIHandler as Handler
    else:
        from djserve.handlers import ASGIHandler as Handler
    return Handler()


overridden = override_settings()
overridden.enable()


class Client:
    """One request: what the server gives the application, and what it gets."""

    def __init__(self, path: str, *, method: str = "GET", **extra: Any) -> None:
        path, _, query = path.partition("?")
        self.body: list[bytes] = extra.pop("body", [b""])
        headers = {"host": "example.com", **extra.pop("headers", {})}
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
            "client": ["127.0.0.1", 40000],
            "server": ["127.0.0.1", 80],
            "scheme": "http",
            "http_version": "1.1",
            **extra,
        }
        self.sent: list[dict[str, Any]] = []
        self.gone = asyncio.Event()
        self.on_send: Callable[[dict[str, Any]], None] = lambda message: None

    async def receive(self) -> dict[str, Any]:
        if self.body:
            chunk = self.body.pop(0)
            return {
                "type": "http.request",
                "body": chunk,
                "more_body": bool(self.body),
            }
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.hear(message)
        await asyncio.sleep(0)

    def leave_at_content(self, message: dict[str, Any]) -> None:
        if message.get("body"):
            self.gone.set()

    async def request(self, application: Any) -> dict[str, Any]:
        project.EVENTS.clear()
        project.THREADS.clear()
        project.RECORDS.lines.clear()
        error = None
        try:
            await self.converse(application)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
        return {
            "error": error,
            "response": self.response,
            "events": list(project.EVENTS),
            "log": list(project.RECORDS.lines),
        }

    async def converse(self, application: Any) -> None:
        if HANDLER == "direct" and self.scope["type"] == "http":
            await carried.carry(
                application, self.scope, self.body, self.gone, self.hear
            )
        else:
            await application(self.scope, self.receive, self.send)

    def hear(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        self.on_send(message)

    @property
    def response(self) -> Any:
        if not self.sent:
            return None
        start = self.sent[0]
        content = b"".join(m.get("body", b"") for m in self.sent[1:])
        headers = [
            [name.decode(), _mask(value.decode())] for name, value in start["headers"]
        ]
        complete = not self.sent[-1].get("more_body", False)
        text = content.decode("latin1")
        if len(text) > 2000:
            text = f"{text[:20]}... {len(text)} {sum(content)}"
        return [start["status"], headers, _mask(text), complete]


def _mask(text: str) -> str:
    text = re.sub(r"(sessionid|csrftoken)=\w+", r"\1=masked", text)
    return re.sub(r"expires=[^;]+", "expires=masked", text)


async def get(application: Any, path: str, **extra: Any) -> dict[str, Any]:
    return await Client(path, **extra).request(application)


def groups() -> dict[str, int]:
    """Return the threads of what happened, numbered by their first appearance."""
    numbers: dict[int, int] = {threading.get_ident(): 0}
    result = {}
    for name, ident in project.THREADS.items():
        result[name] = numbers.setdefault(ident, len(numbers))
    return result


PLAIN_PATHS = (
    "/",
    "/?name=there",
    "/async/",
    "/class/",
    "/cookies/",
    "/missing/",
    "/async",
    "/raise/denied/",
    "/raise/missing/",
    "/raise/bad/",
    "/raise/suspicious/",
    "/araise/denied/",
    "/araise/missing/",
    "/araise/bad/",
    "/araise/suspicious/",
    "/fail/",
    "/afail/",
    "/nothing/",
    "/anothing/",
    "/session/",
    "/asession/",
    "/user/",
    "/auser/",
    "/template/",
    "/atemplate/",
    "/stream/",
    "/stream-from-async/",
    "/large-stream/",
    "/astream/",
    "/astream-from-sync/",
    "/failing-stream/",
    "/file/",
    "/afile/",
    "/memory-file/",
    "/links/",
    "/alinks/",
    "/meta/",
    "/query/",
    "/aquery/",
    "/in-transaction/",
    "/pattern/7/",
    "/pattern/x/",
)


@scenario
async def responses() -> Any:
    application = make_application()
    return {path: await get(application, path) for path in PLAIN_PATHS}


@scenario
async def responses_with_cookies() -> Any:
    application = make_application()
    headers = {"cookie": "sessionid=abcdefgh; csrftoken=" + "c" * 32}
    paths = ("/", "/async/", "/session/", "/asession/", "/user/", "/auser/")
    return {path: await get(application, path, headers=headers) for path in paths}


@scenario
async def responses_in_debug() -> Any:
    application = make_application(DEBUG=True)
    paths = ("/missing/", "/fail/", "/afail/", "/araise/bad/", "/araise/missing/")
    results = {path: await get(application, path) for path in paths}
    for result in results.values():
        # The debug pages hold the frames of the handler; their length differs.
        result["response"][1] = [h for h in result["response"][1] if h[0][0] != "C"]
        result["response"][2] = "text/html" if result["response"][2] else ""
    return results


@scenario
async def propagated_exceptions() -> Any:
    application = make_application(DEBUG_PROPAGATE_EXCEPTIONS=True)
    return {path: await get(application, path) for path in ("/fail/", "/afail/")}


@scenario
async def own_error_pages() -> Any:
    results = {}
    for urls in ("error_urls", "broken_error_urls"):
        application = make_application(ROOT_URLCONF=getattr(project, urls))
        for path in ("/fail/", "/afail/", "/nothing/", "/anothing/"):
            results[f"{urls} {path}"] = await get(application, path)
    return results


@scenario
async def methods_and_forms() -> Any:
    application = make_application()
    boundary = "frontier"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n',
        f"--{boundary}\r\nContent-Disposition: form-data; "
        'name="f"; filename="f.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n" + "x" * 300_000 + "\r\n",
        f"--{boundary}--\r\n",
    ]
    data = "".join(parts).encode()
    multipart = {
        "content-type": f"multipart/form-data; boundary={boundary}",
        "content-length": str(len(data)),
    }
    chunks = [data[i : i + 60_000] for i in range(0, len(data), 60_000)]
    urlencoded = {
        "content-type": "application/x-www-form-urlencoded",
        "content-length": "5",
    }
    results = {"head": await get(application, "/", method="HEAD")}
    for path in ("/form/", "/aform/", "/protected/"):
        results[f"form {path}"] = await get(
            application, path, method="POST", headers=urlencoded, body=[b"a=1&b"]
        )
    for path in ("/form/", "/aform/", "/upload-with-handler/"):
        results[f"upload {path}"] = await get(
            application, path, method="POST", headers=multipart, body=list(chunks)
        )
    return results


@scenario
async def large_content() -> Any:
    application = make_application()
    chunks = [b"y" * 64_000 for _ in range(60)]
    results = {}
    for path in ("/read-stream/", "/body/", "/abody/"):
        results[path] = await get(application, path, method="POST", body=list(chunks))
    too_big = make_application(DATA_UPLOAD_MAX_MEMORY_SIZE=1000)
    headers = {"content-length": "3840000", "content-type": "text/plain"}
    for path in ("/body/", "/abody/"):
        results[f"too big {path}"] = await get(
            too_big, path, method="POST", body=list(chunks), headers=headers
        )
    return results


STACKS = {
    "hooks": ["project.Outer", "project.Middle", "project.Inner"],
    "hooks around built-in": [
        "project.Outer",
        *configuration.DEFAULT_MIDDLEWARE[:4],
        "project.Middle",
        *configuration.DEFAULT_MIDDLEWARE[4:],
        "project.Inner",
    ],
    "sync only": ["project.Outer", "project.SyncOnly", "project.Inner"],
    "async only": ["project.Outer", "project.AsyncOnly", "project.Inner"],
    "mixed": [
        "project.AsyncOnly",
        "project.Outer",
        "project.SyncOnly",
        "project.Inner",
    ],
}

TWISTS = ["", "handle=Middle", "deny=Middle"] + [
    f"{how}={who}"
    for how in ("stop", "raise", "stopview", "raiseview", "raiseresponse")
    for who in ("Outer", "Middle", "Inner")
]


async def _middleware(paths: tuple[str, ...]) -> Any:
    results = {}
    for name, stack in STACKS.items():
        application = make_application(MIDDLEWARE=stack)
        for path in paths:
            for twist in TWISTS:
                key = f"{name} {path}?{twist}"
                results[key] = await get(application, f"{path}?{twist}")
    return results


@scenario
async def middleware_around_sync_views() -> Any:
    return await _middleware(("/", "/fail/", "/template/"))


@scenario
async def middleware_around_async_views() -> Any:
    return await _middleware(("/async/", "/afail/", "/atemplate/"))


@scenario
async def broken_error_page_in_middleware() -> Any:
    application = make_application(
        MIDDLEWARE=STACKS["hooks"], ROOT_URLCONF=project.broken_error_urls
    )
    paths = ("/afail/", "/fail/", "/async/?raise=Inner", "/async/?raiseresponse=Middle")
    return {path: await get(application, path) for path in paths}


@scenario
async def changed_urlconf() -> Any:
    application = make_application(MIDDLEWARE=["project.ChangesUrlconf"])
    return {p: await get(application, p) for p in ("/?urlconf=1", "/async/?urlconf=1")}


@scenario
async def script_prefix() -> Any:
    application = make_application()
    results = {}
    for path in ("/links/", "/alinks/"):
        prefixed = await get(application, f"/mount{path}", root_path="/mount")
        results[path] = [prefixed, await get(application, path)]
    return results


@scenario
async def signals() -> Any:
    from django.core.signals import (
        got_request_exception,
        request_finished,
        request_started,
    )

    def on_start(sender: Any, scope: Any, **kwargs: Any) -> None:
        project.note(f"started {sender.__name__} {scope['path']}")
        project.mark("started")

    def on_finish(sender: Any, **kwargs: Any) -> None:
        project.note(f"finished {sender.__name__}")
        project.mark("finished")

    def on_exception(sender: Any, **kwargs: Any) -> None:
        project.note(f"exception {sender}")

    async def on_finish_async(sender: Any, **kwargs: Any) -> None:
        project.note(f"finished asynchronously {sender.__name__}")

    application = make_application(MIDDLEWARE=STACKS["hooks"])
    request_started.connect(on_start)
    request_finished.connect(on_finish)
    request_finished.connect(on_finish_async)
    got_request_exception.connect(on_exception)
    paths = ("/", "/async/", "/fail/", "/afail/", "/missing/", "/stream/", "/astream/")
    results = {path: await get(application, path) for path in paths}
    threads = {}
    for path in ("/close/", "/threads-of-async/"):
        await get(application, path)
        threads[path] = groups()
    request_started.disconnect(on_start)
    request_finished.disconnect(on_finish)
    request_finished.disconnect(on_finish_async)
    got_request_exception.disconnect(on_exception)
    return [results, threads]


@scenario
async def threads() -> Any:
    results = {}
    for name, stack in STACKS.items():
        application = make_application(MIDDLEWARE=stack)
        for path in ("/threads-of-sync/", "/threads-of-async/", "/stream/"):
            await get(application, path)
            results[f"{name} {path}"] = groups()
    return results


@scenario
async def context() -> Any:
    application = make_application()
    results = {}
    for path in ("/context-of-sync/", "/context-of-async/"):
        for _ in range(2):

            async def request(path: str = path) -> Any:
                project.COLOUR.set("green")
                return await get(application, path)

            results[path] = await asyncio.create_task(request())
    return results


@scenario
async def context_after_the_request() -> Any:
    application = make_application()
    results = {}
    for path in ("/context-of-sync/", "/context-of-async/"):

        async def request(path: str = path) -> str:
            await get(application, path)
            return str(project.SHADE.get())

        results[path] = await asyncio.create_task(request())
    return results


@scenario
async def language_and_timezone() -> Any:
    application = make_application()
    results = []
    for path in ("/language/", "/language/", "/alanguage/", "/alanguage/"):
        results.append(await asyncio.create_task(get(application, path)))
    return results


@scenario
async def atomic_requests() -> Any:
    from asgiref.sync import sync_to_async
    from django.contrib.auth.models import User
    from django.db import connections

    connections.settings["default"]["ATOMIC_REQUESTS"] = True
    application = make_application()
    paths = ("/in-transaction/", "/not-in-transaction/", "/rollback/")
    results = {path: await get(application, path) for path in paths}
    results["/async-and-atomic/"] = await get(application, "/async-and-atomic/")
    connections.settings["default"]["ATOMIC_REQUESTS"] = False
    stays = User.objects.filter(username="must not stay").exists
    return [results, await sync_to_async(stays)()]


@scenario
async def connections_with_age_0() -> Any:
    return await _count_connections(0)


@scenario
async def connections_with_age_60() -> Any:
    return await _count_connections(60)


async def _count_connections(age: int) -> Any:
    from django.db import connections

    connections.settings["default"]["CONN_MAX_AGE"] = age
    application = make_application()
    counted = configuration.CountedConnection
    opened, closed = counted.opened, counted.closed
    for path in ("/query/", "/query/", "/aquery/", "/query/", "/aquery/"):
        await get(application, path)
    connections.settings["default"]["CONN_MAX_AGE"] = 0
    return {"opened": counted.opened - opened, "closed": counted.closed - closed}


async def _leave(application: Any, path: str, when: str) -> Any:
    """Request a path and go away when an event has happened."""
    client = Client(path)
    project.EVENTS.clear()
    project.LEFT.clear()
    request = asyncio.create_task(client.request(application))
    if when == "first part":
        client.on_send = client.leave_at_content
    else:
        # The event comes from a thread.
        while when not in project.EVENTS:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        client.gone.set()
        # The handler shall know before the view goes on.
        for _ in range(20):
            await asyncio.sleep(0)
        project.LEFT.set()
    async with asyncio.timeout(60):
        result = await request
    result["events"] = list(project.EVENTS)
    result["response"] = bool(client.sent)
    return result


@scenario
async def disconnects() -> Any:
    from django.core.signals import request_finished

    def on_finish(**kwargs: Any) -> None:
        project.note("finished")

    request_finished.connect(on_finish)
    application = make_application()
    results = {
        "async view": await _leave(application, "/waits/", "view begins"),
        "sync view": await _leave(application, "/sleeps/", "view begins"),
        "async stream": await _leave(application, "/endless-stream/", "first part"),
    }
    if HANDLER != "django":
        # Django draws a synchronous iterator to its end before it sends a part.
        results["sync stream"] = await _leave(
            application, "/endless-sync-stream/", "first part"
        )
    request_finished.disconnect(on_finish)
    return results


@scenario
async def disconnect_before_the_body() -> Any:
    application = make_application()
    client = Client("/", body=[])
    client.gone.set()
    return await client.request(application)


@scenario
async def other_scopes() -> Any:
    application = make_application()
    return await get(application, "/", type="lifespan")


async def run_all() -> dict[str, Any]:
    with carried.CallCounter() as counter:
        results = {name: await function() for name, function in SCENARIOS.items()}
    return {**results, "calls without a task": counter.count}


def main() -> None:
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection

    warnings.simplefilter("ignore")
    call_command("migrate", verbosity=0)
    User.objects.create(username="someone")
    connection.close()
    for name in ("django", "asyncio"):
        logging.getLogger(name).addHandler(project.RECORDS)
    with folder:
        print(json.dumps(asyncio.run(run_all())))


if __name__ == "__main__":
    main()
