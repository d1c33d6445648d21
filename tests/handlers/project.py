"""The project that ``compare.py`` serves with either handler: settings, URLs, views."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from asgiref.local import Local
from asgiref.sync import async_to_sync, markcoroutinefunction, sync_to_async
from django.contrib.auth.models import User
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.db import connection, transaction
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    StreamingHttpResponse,
)
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import get_script_prefix, path, re_path, reverse
from django.utils import timezone, translation
from django.utils.deprecation import MiddlewareMixin
from django.views import View
from django.views.decorators.csrf import csrf_exempt

EVENTS: list[str] = []
LEFT = threading.Event()
"""What happened, in order; cleared by ``compare.py`` before each request."""

THREADS: dict[str, int] = {}
"""Where it happened: thread identities by name."""

COLOUR: ContextVar[str] = ContextVar("colour", default="none")
SHADE: ContextVar[str] = ContextVar("shade", default="none")
LOCAL = Local()
GATE: dict[str, threading.Event] = {}


def note(event: str) -> None:
    EVENTS.append(event)


def mark(name: str) -> None:
    THREADS[name] = threading.get_ident()


# Views


def hello(request: HttpRequest) -> HttpResponse:
    mark("view")
    name = request.GET.get("name", "world")
    return HttpResponse(f"Hello {name}", headers={"X-Method": request.method or ""})


async def ahello(request: HttpRequest) -> HttpResponse:
    mark("view")
    return HttpResponse("Hello from the loop")


class AsyncView(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0)
        return HttpResponse("Hello from a class")


def cookies(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(str(sorted(request.COOKIES.items())))
    response.set_cookie("a", "1", httponly=True)
    response.set_cookie("b", "two words", max_age=60, samesite="Lax")
    return response


def fail(request: HttpRequest) -> HttpResponse:
    raise ValueError("the view failed")


async def afail(request: HttpRequest) -> HttpResponse:
    raise ValueError("the view failed")


RAISES: dict[str, Callable[[], BaseException]] = {
    "denied": lambda: PermissionDenied("no"),
    "missing": lambda: Http404("not here"),
    "bad": lambda: BadRequest("bad"),
    "suspicious": lambda: SuspiciousOperation("odd"),
}


def raising(request: HttpRequest, kind: str) -> HttpResponse:
    raise RAISES[kind]()


async def araising(request: HttpRequest, kind: str) -> HttpResponse:
    raise RAISES[kind]()


def nothing(request: HttpRequest) -> Any:
    return None


async def anothing(request: HttpRequest) -> Any:
    return None


def session(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(f"Visit {request.session['visits']}")


async def asession(request: HttpRequest) -> HttpResponse:
    visits = await request.session.aget("visits", 0) + 1
    await request.session.aset("visits", visits)
    return HttpResponse(f"Visit {visits}")


def user(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"User {request.user.is_authenticated}")


async def auser(request: HttpRequest) -> HttpResponse:
    found = await request.auser()
    return HttpResponse(f"User {found.is_authenticated}")


def template(request: HttpRequest) -> HttpResponseBase:
    shape = engines["django"].from_string("Name {{ name }}")
    return TemplateResponse(request, shape, {"name": "template"})


async def atemplate(request: HttpRequest) -> HttpResponseBase:
    return template(request)


def protected_form(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"Posted {request.POST.get('field')}")


@csrf_exempt
def form(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{sorted(request.POST.items())} {_describe_files(request)}")


@csrf_exempt
async def aform(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{sorted(request.POST.items())} {_describe_files(request)}")


@csrf_exempt
def upload_with_handler(request: HttpRequest) -> HttpResponse:
    class Counting(MemoryFileUploadHandler):
        def receive_data_chunk(self, raw_data: bytes, start: int) -> Any:
            note("upload chunk")
            return super().receive_data_chunk(raw_data, start)

    request.upload_handlers = [Counting(request)]
    return HttpResponse(_describe_files(request))


def _describe_files(request: HttpRequest) -> str:
    files: list[Any] = list(request.FILES.values())
    return str([(f.name, f.size, f.read(4)) for f in files])


@csrf_exempt
def read_stream(request: HttpRequest) -> HttpResponse:
    first = request.read(5)
    line = request.readline()
    rest = b"".join(request)
    return HttpResponse(repr((first, line, len(rest))))


@csrf_exempt
def body(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.body)))


@csrf_exempt
async def abody(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.body)))


def _parts(count: int, size: int) -> Iterator[bytes]:
    for index in range(count):
        THREADS[f"part {index}"] = threading.get_ident()
        yield b"%d" % (index % 10) * size


def stream(request: HttpRequest) -> StreamingHttpResponse:
    mark("view")
    return StreamingHttpResponse(_parts(5, 1000))


async def stream_from_async(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(_parts(5, 1000))


def large_stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(_parts(40, 100_000))


async def _aparts(count: int) -> AsyncIterator[bytes]:
    try:
        for index in range(count):
            yield b"part %d\n" % index
            await asyncio.sleep(0)
    finally:
        note("async stream closed")


async def astream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(_aparts(5))


def astream_from_sync(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(_aparts(5))


def failing_stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        yield b"first"
        raise ValueError("the stream failed")

    return StreamingHttpResponse(parts())


def file(request: HttpRequest) -> FileResponse:
    return FileResponse(Path(__file__).open("rb"), filename="project.py")


async def afile(request: HttpRequest) -> FileResponse:
    return file(request)


def memory_file(request: HttpRequest) -> FileResponse:
    return FileResponse(io.BytesIO(b"x" * 100_000), filename="memory.bin")


def links(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{get_script_prefix()} {reverse('hello')} {request.path_info}")


async def alinks(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{get_script_prefix()} {reverse('hello')} {request.path_info}")


def meta(request: HttpRequest) -> HttpResponse:
    return HttpResponse(repr(sorted(request.META.items())))


# Threads, context, database


async def threads_of_async(request: HttpRequest) -> HttpResponse:
    mark("loop")
    await sync_to_async(mark)("first")
    await sync_to_async(mark)("second")
    await asyncio.gather(sync_to_async(mark)("third"), sync_to_async(mark)("fourth"))
    return HttpResponse("threads")


def threads_of_sync(request: HttpRequest) -> HttpResponse:
    mark("view")

    async def on_loop() -> None:
        mark("loop")
        await sync_to_async(mark)("inside")

    async_to_sync(on_loop)()
    return HttpResponse("threads")


def context_of_sync(request: HttpRequest) -> HttpResponse:
    seen = f"{COLOUR.get()} {getattr(LOCAL, 'value', 'empty')}"
    SHADE.set("set by the view")
    LOCAL.value = "left behind"
    return HttpResponse(seen)


async def context_of_async(request: HttpRequest) -> HttpResponse:
    seen = f"{COLOUR.get()} {getattr(LOCAL, 'value', 'empty')}"
    SHADE.set("set by the view")
    LOCAL.value = "left behind"
    in_thread = await sync_to_async(COLOUR.get)()
    return HttpResponse(f"{seen} {in_thread}")


def language(request: HttpRequest) -> HttpResponse:
    before = f"{translation.get_language()} {timezone.get_current_timezone_name()}"
    translation.activate("de")
    timezone.activate("Europe/Berlin")
    return HttpResponse(before)


async def alanguage(request: HttpRequest) -> HttpResponse:
    return language(request)


def query(request: HttpRequest) -> HttpResponse:
    mark("query")
    return HttpResponse(User.objects.get(username="someone").username)


async def aquery(request: HttpRequest) -> HttpResponse:
    found = await User.objects.aget(username="someone")
    return HttpResponse(found.username)


def rollback(request: HttpRequest) -> HttpResponse:
    User.objects.create(username="must not stay")
    raise ValueError("after the insert")


def in_transaction(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(connection.in_atomic_block))


@transaction.non_atomic_requests
def not_in_transaction(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(connection.in_atomic_block))


async def async_and_atomic(request: HttpRequest) -> HttpResponse:
    return HttpResponse("never reached under ATOMIC_REQUESTS")


def close_breaks(request: HttpRequest) -> HttpResponse:
    response = HttpResponse("closed late")
    response._resource_closers.append(lambda: mark("closer"))  # type: ignore[attr-defined]
    mark("view")
    return response


# Views that a client leaves


async def waits(request: HttpRequest) -> HttpResponse:
    note("view begins")
    try:
        await asyncio.sleep(300)
    except asyncio.CancelledError:
        note("view cancelled")
        raise
    return HttpResponse("too late")


async def catches_cancellation(request: HttpRequest) -> HttpResponse:
    try:
        await asyncio.sleep(300)
    except asyncio.CancelledError:
        note("view cancelled")
    return HttpResponse("in spite of it")


def sleeps(request: HttpRequest) -> HttpResponse:
    note("view begins")
    assert LEFT.wait(60)
    note("view ends")
    return HttpResponse("dropped")


async def endless_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"tick"
                await asyncio.sleep(0.01)
        finally:
            note("stream closed")

    return StreamingHttpResponse(parts())


def endless_sync_stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        try:
            while True:
                yield b"tick"
                time.sleep(0.01)
        finally:
            note("stream closed")

    return StreamingHttpResponse(parts())


# Middleware


class Noting(MiddlewareMixin):
    """Notes each of its hooks; subclasses change one."""

    def note(self, hook: str) -> None:
        note(f"{type(self).__name__}.{hook}")

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        self.note("process_request")
        mark(f"{type(self).__name__}.process_request")
        if request.GET.get("stop") == type(self).__name__:
            return HttpResponse("stopped")
        if request.GET.get("raise") == type(self).__name__:
            raise ValueError("process_request failed")
        return None

    def process_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponse | None:
        self.note("process_view")
        mark(f"{type(self).__name__}.process_view")
        if request.GET.get("stopview") == type(self).__name__:
            return HttpResponse("stopped before the view")
        if request.GET.get("raiseview") == type(self).__name__:
            raise ValueError("process_view failed")
        return None

    def process_exception(
        self, request: HttpRequest, error: Exception
    ) -> HttpResponse | None:
        self.note(f"process_exception {error}")
        if request.GET.get("handle") == type(self).__name__:
            return HttpResponse("handled")
        return None

    def process_template_response(self, request: HttpRequest, response: Any) -> Any:
        self.note("process_template_response")
        response.context_data["name"] += f" {type(self).__name__}"
        return response

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        self.note(f"process_response {response.status_code}")
        mark(f"{type(self).__name__}.process_response")
        if request.GET.get("raiseresponse") == type(self).__name__:
            raise ValueError("process_response failed")
        if request.GET.get("deny") == type(self).__name__:
            raise PermissionDenied
        return response


class Outer(Noting):
    pass


class Middle(Noting):
    pass


class Inner(Noting):
    pass


class SyncOnly:
    """A middleware from before asynchronous ones."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        note("SyncOnly in")
        mark("SyncOnly")
        response = self.get_response(request)
        note("SyncOnly out")
        return response


class AsyncOnly:
    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> Any:
        note("AsyncOnly in")
        response = await self.get_response(request)
        note("AsyncOnly out")
        return response


class ChangesUrlconf(MiddlewareMixin):
    def process_request(self, request: HttpRequest) -> None:
        if "urlconf" in request.GET:
            request.urlconf = other_urls  # type: ignore[assignment]


def handle_500(request: HttpRequest) -> HttpResponse:
    note("handler500")
    return HttpResponse("Our own error page", status=500)


def broken_500(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("handler500 failed")


urlpatterns = [
    path("", hello, name="hello"),
    path("async/", ahello),
    path("class/", AsyncView.as_view()),
    path("cookies/", cookies),
    path("fail/", fail),
    path("afail/", afail),
    path("raise/<kind>/", raising),
    path("araise/<kind>/", araising),
    path("nothing/", nothing),
    path("anothing/", anothing),
    path("session/", session),
    path("asession/", asession),
    path("user/", user),
    path("auser/", auser),
    path("template/", template),
    path("atemplate/", atemplate),
    path("protected/", protected_form),
    path("form/", form),
    path("aform/", aform),
    path("upload-with-handler/", upload_with_handler),
    path("read-stream/", read_stream),
    path("body/", body),
    path("abody/", abody),
    path("stream/", stream),
    path("stream-from-async/", stream_from_async),
    path("large-stream/", large_stream),
    path("astream/", astream),
    path("astream-from-sync/", astream_from_sync),
    path("failing-stream/", failing_stream),
    path("file/", file),
    path("afile/", afile),
    path("memory-file/", memory_file),
    path("links/", links),
    path("alinks/", alinks),
    path("meta/", meta),
    path("threads-of-async/", threads_of_async),
    path("threads-of-sync/", threads_of_sync),
    path("context-of-sync/", context_of_sync),
    path("context-of-async/", context_of_async),
    path("language/", language),
    path("alanguage/", alanguage),
    path("query/", query),
    path("aquery/", aquery),
    path("rollback/", rollback),
    path("in-transaction/", in_transaction),
    path("not-in-transaction/", not_in_transaction),
    path("async-and-atomic/", async_and_atomic),
    path("close/", close_breaks),
    path("waits/", waits),
    path("catches-cancellation/", catches_cancellation),
    path("sleeps/", sleeps),
    path("endless-stream/", endless_stream),
    path("endless-sync-stream/", endless_sync_stream),
    re_path(r"^pattern/(\d+)/$", lambda request, number: HttpResponse(number)),
]


class other_urls:
    """Another URL configuration, where the views of two paths change sides."""

    urlpatterns = [path("", ahello), path("async/", hello)]


class error_urls:
    """The same views with error handlers of the project's own."""

    urlpatterns = urlpatterns
    handler500 = staticmethod(handle_500)


class broken_error_urls:
    urlpatterns = urlpatterns
    handler500 = staticmethod(broken_500)


class Records(logging.Handler):
    """Collects what is logged, as text without what differs from run to run."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0].__name__ if record.exc_info else "-"  # type: ignore[union-attr]
        line = f"{record.name} {record.levelname} {record.getMessage()} {error}"
        self.lines.append(line)


RECORDS = Records()
