"""``manage.py runserver`` in a fresh project, with independent clients."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.e2e.project import LOOK_OFTEN, add_settings, make_project

pytestmark = pytest.mark.e2e

ENVIRONMENT = {"DJANGO_SETTINGS_MODULE": "mysite.settings"}

ASGI = """
import asyncio, os, time
from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
http = get_asgi_application()

async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
    elif scope["path"] == "/events":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send(
                {"type": "http.response.body", "body": b"data\\n", "more_body": True}
            )
            await asyncio.sleep(0.05)
    elif scope["path"] == "/asleep":
        await sync_to_async(time.sleep)(600)
    else:
        await http(scope, receive, send)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A new project with djserve among its apps and a WebSocket in its application."""
    folder = make_project(tmp_path / "project")
    (folder / "mysite" / "asgi.py").write_text(ASGI)
    (folder / "shop").mkdir()
    (folder / "shop" / "models.py").write_text("from django.db import models\n")
    add_settings(
        folder,
        'INSTALLED_APPS = ["djserve", "shop", *INSTALLED_APPS]',
        'ASGI_APPLICATION = "mysite.asgi.application"',
        LOOK_OFTEN,
    )
    return folder


@pytest.fixture
def run_server(
    project: Path, start_server: Callable[..., Any], free_port: int
) -> Callable[..., Any]:
    """Give ``run_server(*arguments)`` for a runserver that takes connections."""

    def run(*arguments: str) -> Any:
        command = ("manage.py", "runserver", *arguments, str(free_port))
        return start_server(*command, port=free_port, cwd=project, env=ENVIRONMENT)

    return run


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Clients that are ended with the test."""
    children: list[subprocess.Popen[bytes]] = []
    yield children
    for child in children:
        child.kill()
        child.wait()


# A client in a process of its own, which reads as long as there is something.
READER = """
import sys
import urllib.request

with urllib.request.urlopen(sys.argv[1]) as answer:
    while answer.read(1):
        pass
"""


def read(url: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", READER, url]
    return subprocess.Popen(words, stderr=subprocess.DEVNULL)


def wait_for(server: Any, text: str, *, start: int = 0, timeout: float = 120) -> None:
    """Return once ``text`` is in the output after ``start``; fail without it."""
    deadline = time.monotonic() + timeout
    while text not in server.output[start:]:
        if time.monotonic() > deadline:
            pytest.fail(f"{text!r} is missing in:\n{server.output[start:]}")
        time.sleep(0.01)


def touch(path: Path, text: str | None = None) -> None:
    """Change a file so that the reloader, which compares times, must see it."""
    later = path.stat().st_mtime + 2
    if text is not None:
        path.write_text(text)
    os.utime(path, (later, later))


def test_style_sheets_are_below_the_root_path(run_server: Any, project: Path) -> None:
    add_settings(project, 'DJSERVE = {"ROOT_PATH": "/shop"}')
    server = run_server("--noreload")
    page = httpx.get(f"{server.url}/admin/login/", timeout=120)
    # Without the prefix, as a proxy sends it.
    style = httpx.get(f"{server.url}/static/admin/css/base.css", timeout=120)

    assert 'href="/shop/static/admin/css/base.css"' in page.text
    assert style.headers["content-type"] == "text/css"


def test_http_websocket_and_static_files_are_served(run_server: Any) -> None:
    server = run_server("--noreload")
    page = httpx.get(f"{server.url}/admin/login/", timeout=120)
    style = httpx.get(f"{server.url}/static/admin/css/base.css", timeout=120)
    with connect(f"ws://127.0.0.1:{server.port}/chat", open_timeout=120) as websocket:
        websocket.send("hello")
        assert websocket.recv(timeout=120) == "hello"
    server.stop()

    assert "Django administration" in page.text
    assert style.headers["content-type"] == "text/css"
    assert re.search(r"HTTP GET /admin/login/ 200 \[[\d.]+, 127", server.output)
    for step in ("HANDSHAKING", "CONNECT", "DISCONNECT"):
        assert f"WebSocket {step} /chat" in server.output


def test_banner_is_djangos_with_djserve_in_it(run_server: Any) -> None:
    server = run_server("--noreload")
    wait_for(server, "runasgi")

    assert "System check identified no issues" in server.output
    assert "unapplied migration(s)" in server.output
    assert "using settings 'mysite.settings'" in server.output
    assert "Starting ASGI/djserve version" in server.output
    assert f"at http://127.0.0.1:{server.port}/\n" in server.output
    assert "Quit the server with CONTROL-C." in server.output


def test_static_files_can_be_left_out(run_server: Any) -> None:
    server = run_server("--noreload", "--nostatic")

    response = httpx.get(f"{server.url}/static/admin/css/base.css", timeout=120)
    assert response.status_code == 404


@pytest.mark.parametrize(("option", "status"), [("--insecure", 200), ("-v1", 404)])
def test_static_files_without_debug_need_insecure(
    option: str, status: int, project: Path, run_server: Any
) -> None:
    add_settings(project, "DEBUG = False", 'ALLOWED_HOSTS = ["127.0.0.1"]')
    server = run_server("--noreload", option)

    response = httpx.get(f"{server.url}/static/admin/css/base.css", timeout=120)
    assert response.status_code == status


def test_wsgi_server_of_django_is_there(run_server: Any) -> None:
    server = run_server("--noreload", "--noasgi")
    response = httpx.get(f"{server.url}/admin/login/", timeout=120)

    assert response.status_code == 200
    assert response.headers["server"].startswith("WSGIServer")
    assert "djserve" not in server.output


def test_settings_for_production_do_not_reach_it(
    project: Path, run_server: Any
) -> None:
    add_settings(
        project,
        'DJSERVE = {"BIND": ["127.0.0.1:1"], "ACCESS_LOG": str(BASE_DIR / "log"),'
        ' "PID_FILE": str(BASE_DIR / "pid"), "WORKERS": 4, "SERVER_NAME": "mine"}',
    )
    server = run_server("--noreload")

    assert httpx.get(server.url, timeout=120).headers["server"] == "mine"
    assert not (project / "log").exists()
    assert not (project / "pid").exists()


def test_options_of_daphnes_runserver_are_taken(run_server: Any) -> None:
    options = ("--http_timeout", "1", "--websocket_handshake_timeout", "2")
    server = run_server("--noreload", "--nothreading", *options)

    assert httpx.get(f"{server.url}/asleep", timeout=120).status_code == 503


def test_port_in_use_is_one_line_and_code_1(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        result = subprocess.run(
            [sys.executable, "manage.py", "runserver", port],
            cwd=project,
            env={**os.environ, **ENVIRONMENT},
            capture_output=True,
            text=True,
            timeout=300,
        )

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "Error: That port is already in use."
    assert "Traceback" not in result.stderr


@pytest.fixture
def heard_interrupt() -> Iterator[None]:
    """Let new processes hear SIGINT, though whoever started the tests ignores it.

    A shell without job control does so for what it runs in the background, and children
    inherit that. A handler becomes the default in them.
    """
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


@pytest.mark.usefixtures("heard_interrupt")
@pytest.mark.parametrize("options", [(), ("--noreload",)], ids=["reload", "noreload"])
def test_interrupt_does_not_wait_for_open_connections(
    options: tuple[str, ...],
    run_server: Any,
    children: list[subprocess.Popen[bytes]],
) -> None:
    server = run_server(*options)
    children += [read(f"{server.url}/events"), read(f"{server.url}/asleep")]
    with connect(f"ws://127.0.0.1:{server.port}/", open_timeout=120) as websocket:
        wait_for(server, "CONNECT")
        server.process.send_signal(signal.SIGINT)
        code = server.process.wait(120)
        with pytest.raises(ConnectionClosedError):
            websocket.recv(timeout=120)

    # It has ended at all: the call in the thread takes far longer than the wait.
    assert code == 0
    assert "Traceback" not in server.output


def save(
    server: Any,
    file: Path,
    text: str | None = None,
    outcome: str = "changed, reloading.",
    patience: float = 2,
) -> int:
    """Save a file until the outcome is shown; return where its output begins.

    A change before the reloader's first look at the files would go unnoticed.
    """
    before, deadline = len(server.output), time.monotonic() + 120
    while outcome not in server.output[before:]:
        assert time.monotonic() < deadline, server.output[before:]
        touch(file, text)
        look = time.monotonic() + patience
        while time.monotonic() < look and outcome not in server.output[before:]:
            time.sleep(0.01)
    return before


def reload(server: Any, file: Path) -> None:
    """Save a file, and return with the banner of the new process."""
    wait_for(server, "Quit the server", start=save(server, file))


LOOK_NEVER_AGAIN = LOOK_OFTEN.replace("0.1", "3600")


def test_saved_file_is_seen_without_djangos_next_look(
    project: Path, run_server: Any
) -> None:
    add_settings(project, LOOK_NEVER_AGAIN)
    server = run_server()
    wait_for(server, "Quit the server")
    reload(server, project / "mysite" / "urls.py")
    assert server.output.count("Quit the server") == 2


def test_reload_does_not_wait_for_open_connections(
    project: Path, run_server: Any, children: list[subprocess.Popen[bytes]]
) -> None:
    file = project / "mysite" / "urls.py"
    server = run_server()
    wait_for(server, "Quit the server")
    reload(server, file)
    children += [read(f"{server.url}/events"), read(f"{server.url}/asleep")]
    with connect(f"ws://127.0.0.1:{server.port}/", open_timeout=120) as websocket:
        # The call in the thread takes far longer than the banner is waited for.
        reload(server, file)
        with pytest.raises(ConnectionClosedError):
            websocket.recv(timeout=120)

    assert httpx.get(f"{server.url}/admin/login/", timeout=120).status_code == 200


def test_reload_tells_websockets_to_come_back(project: Path, run_server: Any) -> None:
    # The server may be slow to say so, and nothing else is waited for here.
    with (project / "mysite" / "asgi.py").open("a") as file:
        file.write("from djserve.management import development\n")
        file.write("development.CLOSE_TIMEOUT = 120\n")
    server = run_server()
    wait_for(server, "Quit the server")
    with connect(f"ws://127.0.0.1:{server.port}/", open_timeout=120) as websocket:
        reload(server, project / "mysite" / "urls.py")
        with pytest.raises(ConnectionClosedError):
            websocket.recv(timeout=120)

    assert websocket.close_code == 1012


def request(port: int) -> socket.socket:
    """Open a connection, even between two processes, and ask for a page on it."""
    client = socket.create_connection(("127.0.0.1", port), 60)
    client.settimeout(120)
    client.sendall(b"GET /admin/login/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return client


def test_port_stays_open_through_reloads(project: Path, run_server: Any) -> None:
    file = project / "mysite" / "urls.py"
    server = run_server()
    wait_for(server, "Quit the server")
    for _ in range(2):
        before = save(server, file)
        # The process that served has gone, or goes; the next one is still to come.
        asked = [request(server.port) for _ in range(20)]
        wait_for(server, "Quit the server", start=before)
        late = request(server.port)
        assert late.recv(100).startswith(b"HTTP/1.1 200 OK")
        late.close()
        for client in asked:
            assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
            client.close()


@pytest.mark.parametrize(
    ("name", "error"),
    [("asgi.py", "SyntaxError"), ("settings.py", "The settings cannot be loaded")],
)
def test_request_waits_while_the_project_is_broken(
    name: str, error: str, project: Path, run_server: Any
) -> None:
    file = project / "mysite" / name
    server = run_server()
    wait_for(server, "Quit the server")
    good = file.read_text()
    before = save(server, file, f"{good}\ndef broken(:\n")
    wait_for(server, error, start=before)
    with request(server.port) as client:
        save(server, file, good, outcome="Quit the server", patience=30)

        assert client.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_port_is_free_after_the_end(project: Path, run_server: Any) -> None:
    # What the project starts, and leaves behind, inherits no listening socket.
    with (project / "mysite" / "urls.py").open("a") as file:
        file.write("import subprocess\n")
        file.write('child = subprocess.Popen(["sleep", "300"], close_fds=False)\n')
        file.write('print("child", child.pid, flush=True)\n')
    server = run_server()
    wait_for(server, "Quit the server")
    httpx.get(f"{server.url}/admin/login/", timeout=120)
    pids = [int(pid) for pid in re.findall(r"child (\d+)", server.output)]
    try:
        server.stop()
        wait_for_refusal(server.port)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    assert pids


def wait_for_refusal(port: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 60).close()
        except ConnectionRefusedError:
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Errors in settings.py end Django's runserver, before it is known which one that is.
@pytest.mark.parametrize("name", ["mysite/asgi.py", "shop/models.py"])
def test_next_save_recovers_from_an_error(
    name: str, project: Path, run_server: Any
) -> None:
    file = project / name
    server = run_server("--http_timeout", "30")
    wait_for(server, "Quit the server")
    good = file.read_text()
    before = save(server, file, f"{good}\ndef broken(:\n")
    wait_for(server, "SyntaxError", start=before)
    assert "def broken(:" in server.output[before:]

    before = save(server, file, good)
    wait_for(server, "Quit the server", start=before)
    assert httpx.get(f"{server.url}/admin/login/", timeout=120).status_code == 200


def test_another_apps_command_keeps_its_say(project: Path, run_server: Any) -> None:
    folder = project / "quiet" / "management" / "commands"
    folder.mkdir(parents=True)
    (folder / "runserver.py").write_text(
        "from django.contrib.staticfiles.management.commands.runserver import (\n"
        "    Command as Base,\n)\n"
        "class Command(Base):\n"
        "    def add_arguments(self, parser):\n"
        "        super().add_arguments(parser)\n"
        "        parser.set_defaults(use_static_handler=False)\n"
    )
    add_settings(project, 'INSTALLED_APPS.insert(1, "quiet")')
    server = run_server("--noreload")

    response = httpx.get(f"{server.url}/static/admin/css/base.css", timeout=120)
    assert response.status_code == 404
    assert response.headers["server"] == "djserve"


def test_development_https_is_shown_and_served(
    project: Path, start_server: Callable[..., Any], free_port: int, tmp_path: Path
) -> None:
    environment = {**ENVIRONMENT, "XDG_DATA_HOME": str(tmp_path / "data")}
    command = ("manage.py", "runserver", "--https", str(free_port))
    server = start_server(*command, port=free_port, cwd=project, env=environment)
    # The port is open before: the reloader's parent holds it.
    wait_for(server, "Quit the server")
    authority = tmp_path / "data" / "djserve" / "ca.pem"
    context = ssl.create_default_context(cafile=str(authority))
    response = httpx.get(
        f"https://127.0.0.1:{free_port}/admin/login/", verify=context, timeout=120
    )

    assert "Django administration" in response.text
    assert f"at https://127.0.0.1:{free_port}/" in server.output
    assert "To trust https on this machine: certutil" in server.output

    before = save(server, project / "mysite" / "urls.py")
    # The handshake waits for the next process.
    response = httpx.get(
        f"https://127.0.0.1:{free_port}/admin/login/", verify=context, timeout=120
    )
    assert response.status_code == 200
    wait_for(server, "Quit the server", start=before)
