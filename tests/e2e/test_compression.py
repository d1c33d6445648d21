"""Compressed responses on a real server: browser, curl, Python, and both protocols."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

from tests.conftest import find_free_port, find_program, server_starter
from tests.e2e.demo_site import PATIENCE_MS
from tests.support.decoding import CODINGS, open_decoder

pytestmark = pytest.mark.e2e

PATIENCE = 120

APPLICATION = """
import asyncio

from django.conf import settings
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.cache import cache_control
from django.views.decorators.gzip import gzip_page

settings.configure(
    SECRET_KEY="only for a test",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["djserve"],
    MIDDLEWARE=["django.middleware.http.ConditionalGetMiddleware"],
    ROOT_URLCONF=__name__,
)
# Each stream asks for the next step; each request for a step lets one on.
steps = {}


def step_of(request):
    return steps.setdefault(request.GET["id"], asyncio.Semaphore(0))


async def events(request):
    step = step_of(request)

    async def make():
        for number in range(3):
            yield f"data: {number}\\n\\n"
            await step.acquire()

    return StreamingHttpResponse(make(), content_type="text/event-stream")


async def go_on(request):
    step_of(request).release()
    return HttpResponse("ok")


def page(request):
    return HttpResponse("<!doctype html><title>Page</title>" + "<p>text</p>" * 1000)


async def numbers(request):
    return JsonResponse({"numbers": list(range(100_000))})


@cache_control(no_transform=True)
def left_alone(request):
    return page(request)


@cache_control(no_transform=True)
async def async_left_alone(request):
    return page(request)


@gzip_page
def by_django(request):
    return page(request)


urlpatterns = [
    path("events/", events),
    path("go-on/", go_on),
    path("page/", page),
    path("numbers/", numbers),
    path("left-alone/", left_alone),
    path("async-left-alone/", async_left_alone),
    path("by-django/", by_django),
]

from djserve.handlers import get_asgi_application

application = get_asgi_application()
"""

READ_STREAM = """async () => {
    const response = await fetch("/events/?id=browser");
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const seen = [];
    for (;;) {
        const { value, done } = await reader.read();
        if (done) return seen;
        seen.push(value);
        await fetch("/go-on/?id=browser");
    }
}"""


@pytest.fixture(scope="module", params=CODINGS)
def coding(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def url(coding: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A site that compresses by one coding."""
    folder = tmp_path_factory.mktemp("compression")
    (folder / "application.py").write_text(APPLICATION)
    port = find_free_port()
    words = ["-m", "djserve", "application:application", "--bind", f"127.0.0.1:{port}"]
    words += ["--compression", "--compression-codings", coding]
    env = {**os.environ, "PYTHONPATH": str(folder), "DJANGO_SETTINGS_MODULE": ""}
    with server_starter(folder) as start:
        start(*words, port=port, cwd=folder, env=env)
        yield f"http://127.0.0.1:{port}"


def get(url: str, **fields: str) -> tuple[httpx.Response, bytes]:
    """Return a response, and its content as it was sent."""
    with httpx.stream("GET", url, headers=fields, timeout=PATIENCE) as response:
        return response, b"".join(response.iter_raw())


@pytest.mark.browser
def test_event_stream_arrives_part_by_part_in_a_browser(
    url: str, coding: str, browser: Browser
) -> None:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    fields: list[Any] = []
    page.on(
        "response",
        lambda response: (
            fields.append(response.headers) if "/events/" in response.url else None
        ),
    )
    page.goto(f"{url}/page/")
    # Each part is read before the next one is made.
    seen = page.evaluate(READ_STREAM)
    title = page.title()
    page.close()

    assert seen == ["data: 0\n\n", "data: 1\n\n", "data: 2\n\n"]
    assert title == "Page"
    assert fields[0]["content-encoding"] == coding


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2-prior-knowledge"])
def test_event_stream_arrives_part_by_part_in_curl(
    url: str, coding: str, protocol: str
) -> None:
    features = subprocess.check_output([find_program("curl"), "--version"], text=True)
    if {"br": "brotli", "zstd": "zstd", "gzip": "libz"}[coding] not in features:
        pytest.skip(f"this curl does not know {coding}")
    words = [find_program("curl"), "-sN", "--compressed", protocol, "-m", str(PATIENCE)]
    name = f"curl{protocol}"
    with subprocess.Popen(
        [*words, f"{url}/events/?id={name}"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for number in range(3):
            assert process.stdout.readline() == b"data: %d\n" % number
            assert process.stdout.readline() == b"\n"
            get(f"{url}/go-on/?id={name}")
        assert process.stdout.read() == b""
    assert process.returncode == 0


def test_event_stream_arrives_part_by_part_in_python(url: str, coding: str) -> None:
    decode = open_decoder(coding)
    fields = {"accept-encoding": coding}
    with httpx.stream(
        "GET", f"{url}/events/?id=python", headers=fields, timeout=PATIENCE
    ) as response:
        assert response.headers["content-encoding"] == coding
        seen = []
        for part in response.iter_raw():
            text = decode(part)
            if text:
                seen.append(text)
                get(f"{url}/go-on/?id=python")
    assert seen == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2-prior-knowledge"])
@pytest.mark.parametrize("path", ["page", "numbers"])
def test_whole_responses_are_decoded_to_what_the_view_made(
    url: str, coding: str, protocol: str, path: str
) -> None:
    words = [find_program("curl"), "-s", "-D", "-", protocol, "-m", str(PATIENCE)]
    words += ["-H", f"Accept-Encoding: {coding}", f"{url}/{path}/"]
    head, _, content = subprocess.check_output(words).partition(b"\r\n\r\n")
    _, plain = get(f"{url}/{path}/", **{"accept-encoding": "identity"})

    assert f"content-encoding: {coding}".encode() in head.lower()
    assert open_decoder(coding)(content) == plain
    assert len(content) < len(plain) / 2


def test_conditional_request_is_answered_with_304(url: str, coding: str) -> None:
    first, _ = get(f"{url}/page/", **{"accept-encoding": coding})
    etag = first.headers["etag"]
    fields = {"accept-encoding": coding, "if-none-match": etag}
    again, content = get(f"{url}/page/", **fields)

    assert etag.startswith('W/"')
    assert (again.status_code, content) == (304, b"")
    assert again.headers["etag"] == etag
    assert again.headers["vary"] == first.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("path", ["left-alone", "async-left-alone"])
def test_view_opts_out(url: str, coding: str, path: str) -> None:
    response, content = get(f"{url}/{path}/", **{"accept-encoding": coding})

    assert "content-encoding" not in response.headers
    assert b"<p>text</p>" in content


def test_what_django_has_compressed_is_left_alone(url: str, coding: str) -> None:
    fields = {"accept-encoding": f"gzip, {coding}"}
    response, content = get(f"{url}/by-django/", **fields)
    _, plain = get(f"{url}/page/", **{"accept-encoding": "identity"})

    assert response.headers.get_list("content-encoding") == ["gzip"]
    assert open_decoder("gzip")(content) == plain


def test_page_of_another_site_gets_no_compressed_response(
    url: str, coding: str
) -> None:
    fields = {"accept-encoding": coding, "sec-fetch-site": "cross-site"}
    public, _ = get(f"{url}/page/", **fields)
    private, _ = get(f"{url}/page/", **fields, cookie="sessionid=a")

    assert public.headers["content-encoding"] == coding
    assert "content-encoding" not in private.headers
    assert "accept-encoding" in private.headers["vary"].lower()
