"""Parts of files and content without a length, on real servers and in a browser."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser

from tests.conftest import find_free_port, find_program, server_starter
from tests.e2e.demo_site import PATIENCE_MS
from tests.e2e.test_proxy import running

pytestmark = pytest.mark.e2e

SIZE = 300_000
PATIENCE = 120
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
TIMESTAMP = 1445412480

APPLICATION = """
import os
from pathlib import Path

from django.conf import settings
from django.http import FileResponse, HttpResponse, JsonResponse
from django.urls import path
from django.views.static import serve

settings.configure(
    SECRET_KEY="only for a test",
    ALLOWED_HOSTS=["*"],
    DEBUG=True,
    INSTALLED_APPS=["djserve", "django.contrib.staticfiles"],
    MIDDLEWARE=["django.middleware.http.ConditionalGetMiddleware"],
    ROOT_URLCONF=__name__,
    STATIC_URL="/static/",
    STATICFILES_DIRS=[os.environ["FILES"]],
)
folder = Path(os.environ["FILES"])


def sync_file(request):
    return FileResponse((folder / "film.bin").open("rb"), filename="film.bin")


async def async_file(request):
    return sync_file(request)


def own_part(request):
    fields = {"Content-Range": "bytes 0-2/9"}
    return HttpResponse(b"own", status=206, headers=fields)


def private_file(request, name):
    if "refuse" in request.GET:
        return HttpResponse("not yours", status=403)
    response = HttpResponse(headers={"X-Accel-Redirect": f"/internal/{name}"})
    response["Content-Disposition"] = "inline"
    del response["Content-Type"]
    return response


async def async_private_file(request, name):
    return private_file(request, name)


def sound(request):
    return FileResponse((folder / "sound.wav").open("rb"))


def page(request):
    source = request.GET["source"]
    return HttpResponse(f'<!doctype html><video src="{source}"></video>')


def posted(request):
    return JsonResponse(
        {
            "post": request.POST.dict(),
            "files": {name: file.size for name, file in request.FILES.items()},
            "lengths": [
                request.META.get("CONTENT_LENGTH"),
                request.headers.get("Content-Length"),
            ],
        }
    )


async def async_posted(request):
    return posted(request)


urlpatterns = [
    path("page/", page),
    path("sync/", sync_file),
    path("async/", async_file),
    path("own/", own_part),
    path("private/<path:name>", private_file),
    path("async-private/<path:name>", async_private_file),
    path("sound.wav", sound),
    path("posted/", posted),
    path("async-posted/", async_posted),
    path("served/<path:path>", serve, {"document_root": folder}),
]

from djserve.handlers import get_asgi_application
from djserve.handlers.static import StaticFilesHandler

application = get_asgi_application()
development = StaticFilesHandler(application)
"""

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    default_type application/octet-stream;
    client_body_temp_path {folder}/body;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/files;
    }}
}}
"""

REQUESTS: list[dict[str, str]] = [
    {},
    *(
        {"range": f"bytes={ranges}"}
        for ranges in (
            "0-0",
            "0-",
            "100-199",
            "299999-",
            "299999-300000",
            "-1",
            "-300000",
            "-400000",
            "200000-",
            " 5 - 9 , 400000-",
            "0-299998",
            "300000-, 1-2",
            "300000-",
            "-0",
            "9-5",
            "-",
            "x-y",
            "1",
            "0-1,",
            "0-1;",
            "",
        )
    ),
    {"range": "items=0-1"},
    {"range": "BYTES=0-1"},
    {"range": "bytes=0-9", "if-range": DATE},
    {"range": "bytes=0-9", "if-range": "Wed, 21 Oct 2015 07:28:01 GMT"},
    {"range": "bytes=0-9", "if-range": "Wed, 21 Oct 2015 07:27:59 GMT"},
    {"range": "bytes=0-9", "if-range": '"another"'},
    {"range": "bytes=0-9", "if-range": "nonsense"},
    {"range": "bytes=0-9", "if-modified-since": DATE},
    {"range": "bytes=900000-", "if-modified-since": DATE},
]

CHUNKED = ["-H", "Transfer-Encoding: chunked"]
HTTP2 = ["--http2-prior-knowledge", "-H", "Content-Length:"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder with its files; ``film.bin`` has a known age."""
    import os

    folder = tmp_path_factory.mktemp("ranges")
    files = folder / "files"
    files.mkdir()
    film = files / "film.bin"
    film.write_bytes(bytes(n * 7 % 251 for n in range(SIZE)))
    os.utime(film, (TIMESTAMP, TIMESTAMP))
    (files / "sound.wav").write_bytes(make_sound(seconds=120))
    internal = folder / "internal"
    internal.mkdir()
    os.link(film, internal / "film.bin")
    os.link(files / "sound.wav", internal / "sound.wav")
    (folder / "application.py").write_text(APPLICATION)
    return folder


def make_sound(*, seconds: int) -> bytes:
    """Return a WAV file of silence, 16 bits, two channels."""
    rate, width = 48_000, 4
    count = rate * width * seconds
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, rate, rate * width, width, 16)
    head = b"WAVE" + form + struct.pack("<4sI", b"data", count)
    return struct.pack("<4sI", b"RIFF", len(head) + count) + head + bytes(count)


def serve(folder: Path, *words: str, port: int) -> Iterator[str]:
    env = {"PYTHONPATH": str(folder), "FILES": str(folder / "files")}
    with server_starter(folder) as start:
        start("-m", *words, port=port, env={**env, "DJANGO_SETTINGS_MODULE": ""})
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """djserve with its handler and the handler for static files."""
    port = find_free_port()
    words = ["djserve", "application:development", "--bind", f"127.0.0.1:{port}"]
    words += ["--access-log", "-", "--files", f"/public/={folder}/files"]
    words += ["--files-internal", f"/internal/={folder}/internal"]
    yield from serve(folder, *words, port=port)


@pytest.fixture(scope="module")
def uvicorn_url(folder: Path) -> Iterator[str]:
    """The handler under a server that sends no files by itself."""
    port = find_free_port()
    words = ("uvicorn", "application:application", "--port", str(port))
    yield from serve(folder, *words, port=port)


@pytest.fixture(scope="module")
def nginx_url(folder: Path) -> Iterator[str]:
    port = find_free_port()
    path = folder / "nginx.conf"
    path.write_text(NGINX.format(folder=folder, port=port))
    words = [find_program("nginx"), "-c", str(path), "-p", str(folder)]
    with running(words, port, folder / "nginx.log"):
        yield f"http://127.0.0.1:{port}"


def ask(url: str, fields: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    """Return what a client makes its decisions by: status, fields, the file's bytes."""
    response = httpx.get(url, headers=fields, timeout=PATIENCE)
    names = ("content-range", "accept-ranges", "last-modified")
    seen = {name: response.headers[name] for name in names if name in response.headers}
    if response.status_code == 416:
        return 416, {"content-range": seen["content-range"]}, b""
    if response.status_code == 304:
        return 304, {}, response.content
    if response.status_code == 206:
        # nginx leaves it out there, Apache does not; it says nothing new.
        seen.pop("accept-ranges", None)
    return response.status_code, seen, response.content


@pytest.mark.parametrize("server", ["url", "uvicorn_url"])
def test_static_files_are_answered_as_by_nginx(
    server: str, nginx_url: str, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue(server)
    paths = ["served/film.bin"]
    if server == "url":
        paths.append("static/film.bin")
    for fields in REQUESTS:
        expected = ask(f"{nginx_url}/film.bin", fields)
        if server == "uvicorn_url":
            # A whole file goes out as from Django's handler there.
            expected[1].pop("accept-ranges", None)
        for path in paths:
            assert ask(f"{base}/{path}", fields) == expected, (path, fields)


@pytest.mark.parametrize("path", ["sync/", "async/"])
@pytest.mark.parametrize("server", ["url", "uvicorn_url"])
def test_file_of_a_view_is_answered_in_parts(
    server: str, path: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue(server)
    content = (folder / "files" / "film.bin").read_bytes()
    whole = ask(f"{base}/{path}", {})
    part = ask(f"{base}/{path}", {"range": "bytes=1000-290000"})
    refused = ask(f"{base}/{path}", {"range": "bytes=300000-"})
    several = ask(f"{base}/{path}", {"range": "bytes=0-1,5-6"})

    announced = {"accept-ranges": "bytes"} if server == "url" else {}
    assert whole == (200, announced, content)
    fields = {"content-range": "bytes 1000-290000/300000"}
    assert part == (206, fields, content[1000:290001])
    assert refused == (416, {"content-range": "bytes */300000"}, b"")
    assert several == whole


def test_head_has_the_fields_of_the_whole_file(url: str) -> None:
    response = httpx.head(
        f"{url}/sync/", headers={"range": "bytes=0-9"}, timeout=PATIENCE
    )

    assert response.status_code == 200
    assert response.headers["content-length"] == str(SIZE)
    assert response.headers["accept-ranges"] == "bytes"
    assert response.content == b""


def test_connection_goes_on_after_a_refused_range(url: str) -> None:
    with httpx.Client(timeout=PATIENCE) as client:
        refused = client.get(f"{url}/sync/", headers={"range": "bytes=300000-"})
        part = client.get(f"{url}/sync/", headers={"range": "bytes=0-9"})

    assert (refused.status_code, refused.headers["content-length"]) == (416, "0")
    assert (part.status_code, len(part.content)) == (206, 10)


def test_part_that_a_view_answers_itself_is_left_alone(url: str) -> None:
    status, fields, content = ask(f"{url}/own/", {"range": "bytes=4-5"})

    assert (status, content) == (206, b"own")
    assert fields == {"content-range": "bytes 0-2/9"}


@pytest.mark.parametrize("path", ["private/", "async-private/"])
def test_private_file_is_answered_as_by_nginx(
    path: str, url: str, nginx_url: str
) -> None:
    for fields in REQUESTS:
        expected = ask(f"{nginx_url}/film.bin", fields)
        assert ask(f"{url}/{path}film.bin", fields) == expected, fields


@pytest.mark.parametrize("path", ["private/", "async-private/"])
@pytest.mark.parametrize("options", [[], HTTP2], ids=["http1", "http2"])
def test_private_file_is_for_whom_the_view_lets_in(
    path: str, options: list[str], url: str, folder: Path
) -> None:
    def fetch(path: str, *words: str) -> tuple[bytes, bytes]:
        command = [find_program("curl"), "-s", "-D", "-", "-m", str(PATIENCE)]
        command += [*options, *words, f"{url}/{path}"]
        head, _, content = subprocess.check_output(command).partition(b"\r\n\r\n")
        return head, content

    film = (folder / "internal" / "film.bin").read_bytes()
    head, content = fetch(f"{path}film.bin")
    assert content == film
    assert b"inline" in head
    assert b"x-accel-redirect" not in head.lower()
    assert fetch(f"{path}film.bin", "-r", "1000-290000")[1] == film[1000:290001]
    assert fetch(f"{path}film.bin", "-d", "a=b")[1] == film
    assert fetch(f"{path}film.bin?refuse")[1] == b"not yours"
    assert b" 404" in fetch("internal/film.bin")[0].splitlines()[0]


@pytest.mark.browser
@pytest.mark.parametrize("source", ["static", "public", "view", "private"])
def test_video_plays_and_seeks(url: str, browser: Browser, source: str) -> None:
    path = "/sound.wav" if source == "view" else f"/{source}/sound.wav"
    page = browser.new_page()
    statuses: list[int] = []
    page.on(
        "response",
        lambda response: (
            statuses.append(response.status) if response.url.endswith(path) else None
        ),
    )
    page.goto(f"{url}/page/?source={path}&is=page", timeout=PATIENCE_MS)
    position = page.evaluate(
        """async () => {
            const video = document.querySelector("video");
            video.muted = true;
            await video.play();
            const sought = new Promise(done => video.onseeked = done);
            video.currentTime = 100;
            await sought;
            await new Promise(done => video.ontimeupdate =
                () => video.currentTime > 100.1 && done());
            return video.currentTime;
        }"""
    )
    page.close()

    assert 100 < position < 120
    assert set(statuses) == {206}


@pytest.mark.parametrize("path", ["posted/", "async-posted/"])
@pytest.mark.parametrize(
    ("server", "options"),
    [
        pytest.param("url", CHUNKED, id="chunked"),
        pytest.param("url", HTTP2, id="http2"),
        pytest.param("uvicorn_url", CHUNKED, id="chunked, another server"),
    ],
)
@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_form_without_a_length_arrives(
    size: int,
    options: list[str],
    server: str,
    path: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    base = request.getfixturevalue(server)
    upload = tmp_path / "upload.bin"
    upload.write_bytes(b"x" * size)
    form = ["-F", "t=hello", "-F", f"f=@{upload}"]
    command = [find_program("curl"), "-s", *options, *form, f"{base}/{path}"]
    told = httpx.Response(200, content=subprocess.check_output(command)).json()

    assert told["post"] == {"t": "hello"}
    assert told["files"] == {"f": size}
    declared, field = told["lengths"]
    assert declared == field
    assert int(declared) > size
