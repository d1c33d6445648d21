"""docs/guides/platforms.md: its start command, under what a platform sets."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.project import add_settings, make_project

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "platforms.md"

VIEWS = """
import asyncio

from django.http import StreamingHttpResponse
from django.urls import path


async def events(request):
    async def parts():
        yield b"data: first\\n\\n"
        await asyncio.Event().wait()

    return StreamingHttpResponse(parts(), content_type="text/event-stream")


urlpatterns = [path("events/", events)]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = make_project(tmp_path / "project")
    (folder / "mysite" / "views.py").write_text(VIEWS)
    add_settings(
        folder,
        'INSTALLED_APPS.insert(0, "djserve")',
        'ROOT_URLCONF = "mysite.views"',
        'DJSERVE = {"BACKLOG": 64, "KEEP_ALIVE_TIMEOUT": 30}',
    )
    return folder


def test_procfile_serves_and_ends_in_time_with_a_stream_open(
    project: Path, start_server: Callable[..., Any], free_port: int
) -> None:
    line = re.search(r"^web: python (.+)$", PAGE.read_text(), re.MULTILINE)
    assert line is not None
    environ = {
        "DJANGO_SETTINGS_MODULE": "mysite.settings",
        "PORT": str(free_port),
        "WEB_CONCURRENCY": "2",
        "DJSERVE_SHUTDOWN_TIMEOUT": "2",
    }
    arguments = shlex.split(line[1])
    server = start_server(*arguments, port=free_port, cwd=project, env=environ)
    with httpx.stream("GET", f"{server.url}/events/", timeout=120) as response:
        assert next(response.iter_raw()) == b"data: first\n\n"
        server.process.terminate()
        code = server.process.wait(120)

    assert code == 0
    assert "Traceback" not in server.output


def test_settings_show_where_each_value_is_from(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "djserve", "settings"],
        cwd=project,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "DJSERVE_KEEP_ALIVE_TIMEOUT": "95s",
            "PORT": "24001",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )

    lines = {text.split()[0]: text for text in done.stdout.splitlines() if text.strip()}
    assert lines["BACKLOG"].split()[1:] == ["64", "settings"]
    assert lines["KEEP_ALIVE_TIMEOUT"].split()[1:] == ["95.0", "environment"]
    assert lines["BIND"].endswith("environment (PORT)")
    assert "0.0.0.0:24001" in lines["BIND"]
    assert lines["WRITE_TIMEOUT"].split()[1:] == ["30.0", "default"]
