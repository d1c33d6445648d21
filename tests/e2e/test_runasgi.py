"""``manage.py runasgi`` in a fresh project, with independent clients."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.project import add_settings, make_project

pytestmark = pytest.mark.e2e

ENVIRONMENT = {"DJANGO_SETTINGS_MODULE": "mysite.settings"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A new project with djserve among its apps."""
    folder = make_project(tmp_path / "project")
    add_settings(folder, 'INSTALLED_APPS.insert(0, "djserve")')
    return folder


def run_to_end(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "runasgi", *arguments],
        cwd=project,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_project_is_served_and_stops_cleanly(
    project: Path, start_server: Callable[..., Any], free_port: int
) -> None:
    arguments = ("manage.py", "runasgi", str(free_port))
    server = start_server(*arguments, port=free_port, cwd=project, env=ENVIRONMENT)
    response = httpx.get(f"{server.url}/admin/login/", timeout=120)
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
    }
    refused = httpx.get(f"{server.url}/ws/", headers=handshake, timeout=120)
    code = server.stop()

    assert code == 0
    assert refused.status_code == 403
    assert "Django administration" in response.text
    assert response.headers["server"] == "djserve"
    assert "run by djserve's handler" in server.output
    assert "DEBUG is on" in server.output
    assert "Traceback" not in server.output


@pytest.mark.parametrize("mode", ["strip", "keep"])
def test_pages_name_style_sheets_below_the_root_path(
    mode: str, project: Path, start_server: Callable[..., Any], free_port: int
) -> None:
    root = project / "collected"
    add_settings(project, f"STATIC_ROOT = {str(root)!r}")
    (root / "admin" / "css").mkdir(parents=True)
    (root / "admin" / "css" / "base.css").write_text("body {}")
    flags = ("--root-path", "/shop", "--root-path-mode", mode)
    arguments = ("manage.py", "runasgi", str(free_port), *flags)
    server = start_server(*arguments, port=free_port, cwd=project, env=ENVIRONMENT)
    # What the proxy takes off, and a browser's request has.
    taken = "/shop" if mode == "strip" else ""
    page = httpx.get(server.url + "/shop/admin/login/".removeprefix(taken), timeout=120)
    sheet = "/shop/static/admin/css/base.css"
    file = httpx.get(server.url + sheet.removeprefix(taken), timeout=120)

    assert f'href="{sheet}"' in page.text
    assert file.text == "body {}"


def test_settings_and_flags_are_one_configuration(
    project: Path, start_server: Callable[..., Any], free_port: int
) -> None:
    log = project / "access.log"
    add_settings(
        project,
        "DEBUG = False",
        'ALLOWED_HOSTS = ["127.0.0.1"]',
        'ASGI_APPLICATION = "mysite.asgi.application"',
        'DJSERVE = {"SERVER_NAME": "mine", "BIND": ["127.0.0.1:1"],'
        ' "HANDLER": "django"}',
    )
    arguments = ("manage.py", "runasgi", "-p", str(free_port), "--access-log", str(log))
    server = start_server(*arguments, port=free_port, cwd=project, env=ENVIRONMENT)
    response = httpx.get(f"{server.url}/admin/login/", timeout=120)
    server.stop()

    assert response.headers["server"] == "mine"
    assert "GET /admin/login/ HTTP/1.1" in log.read_text()
    assert "run by Django's, as HANDLER says" in server.output
    assert "DEBUG" not in server.output


def test_loggers_are_heard_though_the_project_disables_others(
    project: Path, start_server: Callable[..., Any], free_port: int
) -> None:
    add_settings(project, 'LOGGING = {"version": 1}')
    arguments = ("manage.py", "runasgi", str(free_port))
    server = start_server(*arguments, port=free_port, cwd=project, env=ENVIRONMENT)
    server.stop()

    assert "Listening on" in server.output


@pytest.mark.parametrize("workers", ["1", "2"])
def test_listening_on_all_addresses_is_told(
    project: Path, start_server: Callable[..., Any], free_port: int, workers: str
) -> None:
    address = f"0.0.0.0:{free_port}"
    arguments = ("manage.py", "runasgi", address, "--workers", workers)
    server = start_server(*arguments, port=free_port, cwd=project, env=ENVIRONMENT)
    server.wait_for("Listening on")
    server.stop()

    place = f"http://127.0.0.1:{free_port}/ (all IPv4 addresses, 0.0.0.0)"
    assert f"Listening on {place}" in server.output


def test_wrong_settings_are_all_told_and_end_with_2(project: Path) -> None:
    add_settings(project, 'DJSERVE = {"BAKLOG": 1, "LIFESPAN": "maybe"}')
    result = run_to_end(project, "--backlog", "none")

    assert result.returncode == 2
    assert "did you mean 'BACKLOG'?" in result.stderr
    assert "DJSERVE['LIFESPAN']" in result.stderr
    assert "--backlog" in result.stderr
    assert "Traceback" not in result.stderr


def test_failed_check_ends_with_2(project: Path) -> None:
    add_settings(project, 'TEMPLATES[0]["APP_DIRS"] = "?"', "MIDDLEWARE = []")
    result = run_to_end(project)

    assert result.returncode == 2
    assert "admin.E408" in result.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_workers_of_the_command_line_are_judged_too(
    project: Path, start_server: Callable[..., Any], free_port: int, workers: str
) -> None:
    backend = "channels.layers.InMemoryChannelLayer"
    add_settings(project, f'CHANNEL_LAYERS = {{"default": {{"BACKEND": "{backend}"}}}}')
    arguments = ("manage.py", "runasgi", str(free_port), "--workers", workers)
    server = start_server(*arguments, port=free_port, cwd=project, env=ENVIRONMENT)
    server.wait_for("Listening on")
    server.stop()

    assert server.output.count("djserve.W002") == (workers == "2")


def test_broken_application_ends_with_2(project: Path) -> None:
    (project / "mysite" / "asgi.py").write_text("1 / 0\n")
    result = run_to_end(project)

    assert result.returncode == 2
    assert "Importing 'mysite.asgi' failed" in result.stderr
    assert "ZeroDivisionError" in result.stderr
    assert "importlib" not in result.stderr


def test_another_reactor_ends_with_2(project: Path) -> None:
    add_settings(project, "import twisted.internet.reactor")
    result = run_to_end(project)

    assert result.returncode == 2
    assert "Another Twisted reactor is installed" in result.stderr


def test_development_https_is_trusted_by_its_authority(
    project: Path, start_server: Callable[..., Any], free_port: int, tmp_path: Path
) -> None:
    environment = {**ENVIRONMENT, "XDG_DATA_HOME": str(tmp_path / "data")}
    arguments = ("manage.py", "runasgi", str(free_port), "--dev-https")
    server = start_server(*arguments, port=free_port, cwd=project, env=environment)
    authority = tmp_path / "data" / "djserve" / "ca.pem"
    context = ssl.create_default_context(cafile=str(authority))
    response = httpx.get(
        f"https://127.0.0.1:{free_port}/admin/login/", verify=context, timeout=120
    )
    server.stop()

    assert "Django administration" in response.text
    assert str(authority) in server.output
