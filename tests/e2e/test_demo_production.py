"""The demo as docs/guides/demo.md deploys it: no DEBUG, static files, a proxy's TLS."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.demo_site import manage

pytestmark = pytest.mark.e2e

ENV = {
    "DEBUG": "0",
    "SECRET_KEY": "only-for-this-test-" + "x" * 50,
    "ALLOWED_HOSTS": "127.0.0.1",
}
PLAIN = {**ENV, "DEMO_PLAIN_HTTP": "1"}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("production")
    manage(folder, "demo_setup", "--force", env=PLAIN)
    return folder


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    """The data directory of ``serve``, as demo_setup makes it."""
    shutil.copytree(original, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def serve(
    start_server: Callable[..., Any], free_port: int, data: Path
) -> Callable[..., httpx.Client]:
    """Give ``serve(env, *options)``: a client of a demo without DEBUG."""

    def serve(env: dict[str, str], *options: str) -> httpx.Client:
        address = f"127.0.0.1:{free_port}"
        environ = {**env, "DEMO_DATA_DIR": str(data)}
        start_server(
            "manage.py", "runasgi", address, *options, port=free_port, env=environ
        )
        return httpx.Client(base_url=f"http://{address}", timeout=60)

    return serve


def test_pages_find_their_static_files_without_debug(
    serve: Callable[..., httpx.Client], data: Path
) -> None:
    with serve(PLAIN) as client:
        page = client.get("/").text
        paths = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
        answers = {
            path: client.get(path) for path in {*paths, "/static/admin/css/base.css"}
        }

    assert len(paths) >= 3
    assert {answer.status_code for answer in answers.values()} == {200}
    style = answers["/static/demo/css/site.css"]
    assert style.headers["Content-Type"].startswith("text/css")


def test_collected_static_files_are_compressed(
    serve: Callable[..., httpx.Client], data: Path
) -> None:
    manage(data, "collectstatic", "--no-input", env=PLAIN)
    with serve(PLAIN) as client:
        style = client.get(
            "/static/demo/css/site.css", headers={"Accept-Encoding": "gzip"}
        )
        missing = client.get("/static/demo/css/other.css")

    assert style.headers["Content-Encoding"] == "gzip"
    assert missing.status_code == 404


def test_plain_request_is_sent_to_https_unless_a_proxy_had_it_there(
    serve: Callable[..., httpx.Client], data: Path
) -> None:
    with serve(ENV, "--proxy-headers") as client:
        plain = client.get("/")
        secure = client.get("/", headers={"X-Forwarded-Proto": "https"})

    assert plain.headers["Location"].startswith("https://127.0.0.1")
    assert secure.status_code == 200
    assert "Strict-Transport-Security" in secure.headers
