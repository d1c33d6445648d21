"""``manage.py runserver`` while its settings are broken, and mended again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.project import LOOK_OFTEN, add_settings, make_project

pytestmark = pytest.mark.e2e

TIMEOUT = 120
ENVIRONMENT = {"DJANGO_SETTINGS_MODULE": "mysite.settings"}


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """The settings of a new project with djserve among its apps."""
    project = make_project(tmp_path / "project")
    add_settings(
        project,
        'INSTALLED_APPS = ["djserve", *INSTALLED_APPS]',
        'ASGI_APPLICATION = "mysite.asgi.application"',
        LOOK_OFTEN,
    )
    return project / "mysite" / "settings.py"


MENDED_BY_ITSELF = """
# Broken:
from pathlib import Path
text = Path(__file__).read_text()
Path(__file__).write_text(text.partition("# Broken:")[0])
raise ValueError("for a moment")
"""


def save(path: Path, text: str) -> None:
    """Write a file so that the reloader, which compares times, must see it."""
    later = path.stat().st_mtime + 2
    path.write_text(text)
    os.utime(path, (later, later))


def save_until_noticed(path: Path, text: str, server: Any) -> None:
    """Save a file until the reloader notices: its first look sees no change."""
    deadline = time.monotonic() + TIMEOUT
    while "changed, reloading." not in server.output:
        assert time.monotonic() < deadline, server.output
        save(path, text)
        look = time.monotonic() + 3
        while time.monotonic() < look and "reloading." not in server.output:
            time.sleep(0.05)


def wait_for(condition: Callable[[], object], server: Any) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert server.process.poll() is None, server.output
        assert time.monotonic() < deadline, server.output
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=TIMEOUT).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("line", "told", "options"),
    [
        ("def (", "SyntaxError", []),
        ("import nothing_there", "ModuleNotFoundError", []),
        (
            "from django.core.exceptions import ImproperlyConfigured as Wrong\n"
            "raise Wrong('no key')",
            "ImproperlyConfigured: no key",
            [],
        ),
        # Django's own command, which is found then, has no such option.
        (
            "import nothing_there",
            "unrecognized arguments: --noasgi",
            ["--noasgi"],
        ),
    ],
    ids=["syntax", "import", "configuration", "option"],
)
def test_error_in_the_settings_is_shown_and_the_next_save_recovers(
    settings: Path,
    start_server: Callable[..., Any],
    free_port: int,
    line: str,
    told: str,
    options: list[str],
) -> None:
    command = ("manage.py", "runserver", *options, str(free_port))
    folder = settings.parent.parent
    server = start_server(*command, port=free_port, cwd=folder, env=ENVIRONMENT)
    wait_for(lambda: answers(server.url), server)
    good = settings.read_text()

    save_until_noticed(settings, f"{good}{line}\n", server)
    wait_for(lambda: "waiting for a change of a file" in server.output, server)
    assert told in server.output
    save(settings, good)
    wait_for(lambda: answers(server.url), server)


def test_error_that_is_mended_at_once_does_not_end_the_command(
    settings: Path, start_server: Callable[..., Any], free_port: int
) -> None:
    command = ("manage.py", "runserver", str(free_port))
    folder = settings.parent.parent
    server = start_server(*command, port=free_port, cwd=folder, env=ENVIRONMENT)
    wait_for(lambda: answers(server.url), server)

    # The first process that loads it fails, and mends it.
    save_until_noticed(settings, settings.read_text() + MENDED_BY_ITSELF, server)
    wait_for(lambda: "ValueError: for a moment" in server.output, server)
    wait_for(lambda: answers(server.url), server)


def test_port_in_use_still_ends_the_command(settings: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, "manage.py", "runserver", port],
            cwd=settings.parent.parent,
            env={**os.environ, **ENVIRONMENT},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    assert ended.returncode == 1
    assert "already in use" in ended.stderr
    assert "waiting" not in ended.stderr
