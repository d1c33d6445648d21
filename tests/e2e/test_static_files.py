"""A new project's admin and its files, served by one command."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser

from tests.conftest import find_free_port, server_starter
from tests.support.decoding import CODINGS, open_decoder

pytestmark = pytest.mark.e2e

SETTINGS = """
INSTALLED_APPS.insert(0, "djserve")
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
STATIC_ROOT = BASE_DIR / "static"
STORAGES["staticfiles"] = {
    "BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
}
DJSERVE = {"FILES": {"/media/": BASE_DIR / "media"}}
"""


ENV = {**os.environ, "DJANGO_SETTINGS_MODULE": "mysite.settings"}


# Other tests may have both CPUs.
get = partial(httpx.get, timeout=120)


def manage(folder: Path, *words: str) -> None:
    command = [sys.executable, "manage.py", *words]
    subprocess.run(
        command, cwd=folder, check=True, capture_output=True, timeout=300, env=ENV
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[str]:
    """The address of a new project that runs with two workers."""
    start = [sys.executable, "-m", "django", "startproject", "mysite", "."]
    subprocess.run(start, cwd=folder, check=True, timeout=300)
    settings = folder / "mysite" / "settings.py"
    text = settings.read_text()
    if "STORAGES" not in text:
        text += "from django.conf.global_settings import STORAGES\n"
    settings.write_text(text + SETTINGS)
    (folder / "media").mkdir()
    (folder / "media" / "film.bin").write_bytes(bytes(range(256)) * 8192)
    manage(folder, "collectstatic", "--no-input", "-v0")
    manage(folder, "djserve", "compress")
    port = find_free_port()
    words = ["manage.py", "runasgi", f"127.0.0.1:{port}", "--workers", "2"]
    with server_starter(folder) as start_server:
        start_server(*words, port=port, cwd=folder, env=ENV)
        yield f"http://127.0.0.1:{port}"


def test_admin_is_styled(site: str, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"{site}/admin/login/")

    sheets = page.evaluate("[...document.styleSheets].map(each => each.href)")
    assert sheets
    assert all("/static/admin/css/" in each for each in sheets)
    # By the style sheet's rule: without it, a page's background is transparent.
    header = page.locator("#header")
    colour = header.evaluate("each => getComputedStyle(each).backgroundColor")
    assert colour == "rgb(65, 118, 144)"
    page.close()


def test_hashed_file_is_immutable_and_the_plain_one_is_not(site: str) -> None:
    page = get(f"{site}/admin/login/").text
    hashed = page.split('href="/static/admin/css/base.')[1].split('"')[0]
    found = get(f"{site}/static/admin/css/base.{hashed}")
    plain = get(f"{site}/static/admin/css/base.css")

    assert found.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert plain.headers["cache-control"] == "public, max-age=60"
    again = get(
        f"{site}/static/admin/css/base.css",
        headers={"If-None-Match": plain.headers["etag"]},
    )
    assert again.status_code == 304


def test_media_file_comes_whole_and_in_parts(site: str) -> None:
    url = f"{site}/media/film.bin"
    content = bytes(range(256)) * 8192

    assert get(url).content == content
    part = get(url, headers={"Range": "bytes=300-999999"})
    assert part.status_code == 206
    assert part.content == content[300:1_000_000]


def test_long_file_comes_whole_through_a_small_window(site: str, folder: Path) -> None:
    content = os.urandom(8_000_000)
    (folder / "media" / "long.bin").write_bytes(content)
    (folder / "media" / "short.txt").write_bytes(b"short")
    address = httpx.URL(site)
    paths = ("long.bin", "short.txt", "long.bin")
    requests = [
        f"GET /media/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" for path in paths
    ]
    with socket.socket() as sock:
        # The server's socket is full all the time.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        sock.settimeout(120)
        sock.connect((address.host, address.port))
        sock.sendall("".join(requests).encode())
        with sock.makefile("rb") as stream:
            for expected in (content, b"short", content):
                head = b"".join(iter(stream.readline, b"\r\n"))
                assert head.startswith(b"HTTP/1.1 200 OK\r\n")
                assert stream.read(len(expected)) == expected


def test_upload_is_served_by_each_worker_without_a_reload(
    site: str, folder: Path
) -> None:
    url = f"{site}/media/2026/an%20upload.png"
    assert get(url).status_code == 404
    (folder / "media" / "2026").mkdir()
    (folder / "media" / "2026" / "an upload.png").write_bytes(b"pixels")

    # Each by a connection of its own: they come to both workers.
    found = [get(url) for _ in range(8)]
    assert {(each.status_code, each.content) for each in found} == {(200, b"pixels")}
    assert found[0].headers["content-type"] == "image/png"


def test_what_is_no_file_is_djangos(site: str) -> None:
    found = get(f"{site}/static/none.css")

    assert found.status_code == 404
    assert "x-frame-options" in found.headers
    settings = get(f"{site}/static/%2e%2e/mysite/settings.py")
    assert settings.status_code == 404


@pytest.mark.parametrize("coding", CODINGS)
def test_variants_of_the_command_are_served(site: str, coding: str) -> None:
    page = get(f"{site}/admin/login/").text
    path = re.findall(r'href="(/static/admin/css/base[^"]*)"', page)[0]
    plain = get(site + path, headers={"accept-encoding": "identity"})
    headers = {"accept-encoding": coding}
    with httpx.stream("GET", site + path, headers=headers, timeout=120) as response:
        content = b"".join(response.iter_raw())

    assert response.headers["content-encoding"] == coding
    assert response.headers["cache-control"].endswith("immutable")
    assert len(content) < len(plain.content) / 3
    assert open_decoder(coding)(content) == plain.content
