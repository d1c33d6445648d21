"""What a plain start imports: the time until the first answer is mostly that."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets.sync.client

from tests.e2e.workers import wait_for

pytestmark = pytest.mark.e2e

TIMEOUT = 120

APPLICATION = """
import sys


async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": " ".join(sys.modules)})
        return
    # What is being imported may have stand-ins for others.
    kinds = {name: type(module).__name__ for name, module in [*sys.modules.items()]}
    names = " ".join(name for name in kinds if kinds[name] != "StandIn").encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": names})
"""

WEBSOCKET = {"autobahn", "cbor2", "cffi", "djserve.protocols.websocket.codec"}

UNNEEDED = {
    # HTTP/2
    "djserve.protocols.http2.connection",
    "h2",
    "hpack",
    # Endpoint strings and TLS of djserve's own
    "djserve.net.certificates",
    "djserve.net.twisted.endpoints",
    "twisted.internet.endpoints",
    # The PROXY protocol, metrics, traces, reloading, the supervisor
    "djserve.net.proxied",
    "djserve.supervisor.arbiter",
    "djserve.supervisor.loader",
    "http.server",
    "opentelemetry",
    "prometheus_client",
    "watchfiles",
    # Twisted, and what it imports in its turn
    "OpenSSL",
    "attr",
    "constantly",
    "cryptography",
    "incremental",
    "service_identity",
    "twisted",
    "zope.interface",
    # What a system check of Django's would import
    "django.core.management.commands.makemigrations",
    "django.db.migrations.autodetector",
    # What only some applications need
    "channels",
    "django",
    "importlib.metadata",
}

UNNEEDED_WITHOUT_DJANGO = {
    "asgiref",
    "csv",
    "difflib",
    "email",
    "http.client",
    "http.cookiejar",
    "urllib.request",
    "zipfile",
}

MODULES_LIMIT = 480
"""How many modules a plain start may import, WebSocket's and Python's own included."""

SETTINGS = """
SECRET_KEY = "only for a test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "site_urls"
INSTALLED_APPS = ["djserve"]
"""

URLS = """
import sys

from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("", lambda request: HttpResponse(" ".join(sys.modules)))]
"""

MANAGE = """
import sys

from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
"""


@pytest.fixture
def serve(
    tmp_path: Path,
    start_server: Callable[..., Any],
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Any]:
    """Give ``serve(*options)`` for the command djserve, without Django."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    # What may be a setting with a mistake in its name has difflib imported.
    for name in [name for name in os.environ if name.startswith("DJSERVE_")]:
        monkeypatch.delenv(name)
    (tmp_path / "site_app.py").write_text(APPLICATION)

    def serve(*options: str) -> Any:
        words = ("site_app:application", "--bind", f"127.0.0.1:{free_port}", *options)
        return start_server("-m", "djserve", *words, port=free_port, cwd=tmp_path)

    return serve


def read_modules(url: str, **options: Any) -> set[str]:
    return set(httpx.get(url, timeout=TIMEOUT, **options).text.split())


def test_plain_start_imports_what_http_needs_alone(serve: Callable[..., Any]) -> None:
    modules = read_modules(serve().url)

    assert "djserve.protocols.http1.connection" in modules
    # WebSocket comes beside it, at any time.
    assert modules & (UNNEEDED | UNNEEDED_WITHOUT_DJANGO) == set()
    assert len(modules) < MODULES_LIMIT


def test_websocket_is_imported_before_it_is_asked_for(
    serve: Callable[..., Any],
) -> None:
    url = serve().url

    wait_for(lambda: read_modules(url) >= WEBSOCKET, 0.1)


def test_first_websocket_brings_what_it_needs(serve: Callable[..., Any]) -> None:
    url = f"ws://127.0.0.1:{serve().port}/"
    with websockets.sync.client.connect(url, open_timeout=TIMEOUT) as client:
        modules = set(str(client.recv(TIMEOUT)).split())

    assert "djserve.protocols.websocket.codec" in modules
    assert "h2" not in modules


def test_forked_workers_have_everything_before_they_are_asked(
    serve: Callable[..., Any],
) -> None:
    modules = read_modules(serve("--workers", "2").url)

    assert modules >= {"h2", "autobahn", "djserve.protocols.websocket.codec"}


def test_project_s_start_imports_what_http_needs_alone(
    tmp_path: Path,
    start_server: Callable[..., Any],
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "site_settings")
    (tmp_path / "site_settings.py").write_text(SETTINGS)
    (tmp_path / "site_urls.py").write_text(URLS)
    (tmp_path / "manage.py").write_text(MANAGE)
    command = ("manage.py", "runasgi", str(free_port))
    server = start_server(*command, port=free_port, cwd=tmp_path)

    unneeded = UNNEEDED | WEBSOCKET
    assert read_modules(server.url) & unneeded == {"channels", "django"}
