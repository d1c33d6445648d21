"""A project whose middleware count: its program prints what they know.

Run as a program, with Sentry or without: what that replaces stays replaced.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import django
import sentry_sdk
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.deprecation import MiddlewareMixin

from djserve.handlers.handler import ASGIHandler

MADE: list[str] = []


class CountingHooks(MiddlewareMixin):
    """Counts in an attribute that each request sets anew."""

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        self.count = 0
        MADE.append("hooks")

    def process_request(self, request: HttpRequest) -> None:
        self.count += 1

    def process_view(self, request: HttpRequest, view: Any, *args: Any) -> None:
        request.before = self.count  # type: ignore[attr-defined]

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        response["X-Hooks"] = f"{self.count}"
        return response


class CountingCalls:
    """Keeps a table, and knows one mode only."""

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.paths: dict[str, int] = {}
        MADE.append("calls")

    def __call__(self, request: HttpRequest) -> Any:
        self.paths[request.path] = self.paths.get(request.path, 0) + 1
        response = self.get_response(request)
        response["X-Calls"] = json.dumps(self.paths)
        return response


class HidesItsHandler(CountingCalls):
    """Calls by another name, of which a twin would know nothing."""

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        self.also = get_response


class HidesItDeeply(CountingCalls):
    """Calls by a function that another object has."""

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        self.retry = partial(lambda request: get_response(request))


class KnowsBothModes:
    """Counts in both modes, which it learns from what it calls, by itself."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)
        MADE.append("both")

    def __call__(self, request: HttpRequest) -> Any:
        if iscoroutinefunction(self):
            return self.__acall__(request)
        return self.mark(self.get_response(request))

    async def __acall__(self, request: HttpRequest) -> Any:
        return self.mark(await self.get_response(request))

    def mark(self, response: Any) -> Any:
        self.count = getattr(self, "count", 0) + 1
        response["X-Both"] = f"{self.count} {self.__class__ is KnowsBothModes}"
        return response


class RemembersItsMode(KnowsBothModes):
    """Keeps its mode where a twin would find that of the other lane."""

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        self.is_async = iscoroutinefunction(get_response)


class LearnsItsMode(KnowsBothModes):
    """Asks for its mode once, when it is first called."""

    @cached_property
    def is_async(self) -> bool:
        return iscoroutinefunction(self.get_response)

    def __call__(self, request: HttpRequest) -> Any:
        if self.is_async:
            return self.__acall__(request)
        return self.mark(self.get_response(request))


class NotesItsMode(KnowsBothModes):
    """Does the same by hand."""

    is_noted = runs_async = False

    def __call__(self, request: HttpRequest) -> Any:
        if not self.is_noted:
            self.is_noted, self.runs_async = True, iscoroutinefunction(self)
        if self.runs_async:
            return self.__acall__(request)
        return self.mark(self.get_response(request))


def sync_view(request: HttpRequest) -> HttpResponse:
    is_loop = threading.current_thread() is threading.main_thread()
    return HttpResponse("loop" if is_loop else "thread")


async def async_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse("async")


urlpatterns = [path("sync/", sync_view), path("async/", async_view)]


async def get(application: Any, url: str) -> dict[str, Any]:
    """Make a request; return the fields that the middleware have set."""
    inbox = [{"type": "http.request", "body": b""}]
    fields: dict[str, Any] = {}

    async def receive() -> dict[str, Any]:
        if inbox:
            return inbox.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        if "status" in message:
            fields["status"] = message["status"]
            fields.update(
                (name.decode(), value.decode())
                for name, value in message["headers"]
                if name.lower().startswith(b"x-")
            )

    scope = {
        "type": "http",
        "method": "GET",
        "path": url,
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    await application(scope, receive, send)
    return fields


async def main() -> None:
    application = ASGIHandler()
    answers = [
        await get(application, url)
        for url in ("/async/", "/sync/", "/sync/", "/async/")
    ]
    lane = "asynchronous" if application._is_only_async else "both"
    print(json.dumps({"answers": answers, "made": MADE, "lane": lane}))


if __name__ == "__main__":
    settings.configure(
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=[f"tests.handlers.counting.{name}" for name in sys.argv[2:]],
        ROOT_URLCONF="tests.handlers.counting",
    )
    if sys.argv[1] == "sentry":
        sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", traces_sample_rate=1.0)
        sentry_sdk.get_client().transport = None
    # Not __main__, whose list would be another.
    from tests.handlers import counting

    django.setup()
    asyncio.run(counting.main())
