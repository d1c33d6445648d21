"""The garbage collector runs seldom while a program starts, and as usual afterwards."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from djserve.collector import collect_as_usual, collect_seldom

USUAL = (701, 11, 12)

APPLICATION = """
import gc

WHILE_LOADED = gc.get_threshold()[0]


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    text = f"{WHILE_LOADED} {gc.get_threshold()[0]}".encode()
    fields = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": text})
"""


SETTINGS = """
SECRET_KEY = "only for a test"
DEBUG = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "site_urls"
INSTALLED_APPS = ["djserve"]
ASGI_APPLICATION = "site_app.application"
"""


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*USUAL)
    yield
    collect_as_usual()
    gc.set_threshold(*before)
    gc.enable()


def test_collector_runs_seldom_until_it_is_to_run_as_usual() -> None:
    usual = gc.get_threshold()

    collect_seldom()
    collect_seldom()
    assert gc.get_threshold()[0] > 50 * usual[0]
    assert gc.isenabled()

    collect_as_usual()
    assert gc.get_threshold() == usual
    collect_as_usual()
    assert gc.get_threshold() == usual


def test_choice_of_the_application_is_kept() -> None:
    collect_seldom()
    gc.set_threshold(1234, 5, 6)

    collect_as_usual()

    assert gc.get_threshold()[0] == 1234


def test_collector_that_is_off_stays_as_it_is() -> None:
    gc.disable()
    collect_seldom()
    assert gc.get_threshold()[0] == USUAL[0]
    gc.enable()

    gc.set_threshold(0, 5, 6)
    collect_seldom()
    assert gc.get_threshold()[0] == 0
    collect_as_usual()
    assert gc.get_threshold()[0] == 0


@pytest.mark.e2e
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("djserve", "site_app:application", "--bind"), id="djserve"),
        pytest.param(("django", "runasgi", "--bind"), id="runasgi"),
        pytest.param(("django", "runasgi", "--workers", "1", "--bind"), id="worker"),
        pytest.param(("django", "runserver", "--noreload"), id="runserver"),
    ],
)
def test_application_is_loaded_with_few_collections_and_served_as_usual(
    command: tuple[str, ...],
    start_server: Callable[..., Any],
    free_port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    (tmp_path / "site_urls.py").write_text("urlpatterns = []")
    (tmp_path / "site_settings.py").write_text(SETTINGS)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "site_settings")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    script = "import gc; print(gc.get_threshold()[0])"
    usual = subprocess.check_output([sys.executable, "-c", script], text=True).strip()
    address = f"127.0.0.1:{free_port}"
    start_server("-m", *command, address, port=free_port, cwd=tmp_path)

    text = httpx.get(f"http://{address}/", timeout=120).text

    assert text == f"50000 {usual}"
