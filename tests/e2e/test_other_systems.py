"""djserve on Windows and macOS: what these lack is hidden from a new interpreter.

``tests/support/standin`` says what that is. The servers, sockets and clients are real.
"""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import httpx
import pytest
from websockets.sync.client import connect

from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = ("windows", "macos")

FILES = {
    "site_settings.py": """
        DEBUG = True
        SECRET_KEY = "x" * 50
        ALLOWED_HOSTS = ["127.0.0.1"]
        INSTALLED_APPS = ["djserve", "django.contrib.staticfiles"]
        ROOT_URLCONF = "site_urls"
        ASGI_APPLICATION = "site_asgi.application"
        STATIC_URL = "/static/"
        DATABASES = {
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        }
    """,
    "site_urls.py": """
        import time
        from django.http import FileResponse, HttpResponse
        from django.urls import path

        def wait(request):
            print("begun", flush=True)
            time.sleep(1)
            return HttpResponse("all of it")

        async def view(request):
            return HttpResponse("async")

        urlpatterns = [
            path("", lambda request: HttpResponse("hello")),
            path("async", view),
            path("length", lambda request: HttpResponse(str(len(request.body)))),
            path("file", lambda request: FileResponse(open(__file__, "rb"))),
            path("wait", wait),
        ]
    """,
    "site_asgi.py": """
        import os
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
        from django.core.asgi import get_asgi_application

        django = get_asgi_application()

        async def application(scope, receive, send):
            if scope["type"] != "websocket":
                await django(scope, receive, send)
                return
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] != "websocket.disconnect":
                await send({"type": "websocket.send", "text": message["text"]})
    """,
    "manage.py": """
        import os, sys
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
        from django.core.management import execute_from_command_line
        execute_from_command_line(sys.argv)
    """,
    "tests.py": """
        import urllib.request
        from django.test import LiveServerTestCase
        from djserve.testing.testcases import DjserveLiveServerTestCase

        class LiveTests(DjserveLiveServerTestCase):
            def test_hello(self):
                with urllib.request.urlopen(self.live_server_url) as response:
                    self.assertEqual(response.read(), b"hello")
    """,
    "imports.py": """
        import importlib, os, pkgutil, sys
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
        import django, djserve
        django.setup()
        for module in pkgutil.walk_packages(djserve.__path__, "djserve."):
            try:
                importlib.import_module(module.name)
            except Exception as error:
                print(module.name, repr(error))
    """,
}


def _unindent(text: str) -> str:
    return re.sub(r"^ {8}", "", text, flags=re.MULTILINE)


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(_unindent(text))
    return tmp_path


def environment(system: str, site: Path) -> dict[str, str]:
    paths = (ROOT / "tests" / "support" / "standin", ROOT)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DJANGO_", "DJSERVE_"))
    }
    return kept | {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "DJSERVE_STANDIN": system,
        "HOME": str(site),
        "LOCALAPPDATA": str(site),
        "PYTHONUNBUFFERED": "1",
    }


def test_stand_in_is_in_place(system: str, site: Path) -> None:
    # Python runs on after an error in a sitecustomize.
    ended = run(system, site, "-c", "import sys; print(sys.platform)")
    assert ended.stdout.strip() == {"windows": "win32", "macos": "darwin"}[system]
    assert not ended.stderr


def run(system: str, site: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=site,
        env=environment(system, site),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def read_until(output: IO[str], pattern: str) -> str:
    for line in output:
        if match := re.search(pattern, line):
            return match[1]
    raise AssertionError(f"The server ended, and told nothing like {pattern}")


# The supervisor, which cannot be there without its worker processes.
PROCESSES = {"arbiter", "clean"}


def test_every_module_can_be_imported(system: str, site: Path) -> None:
    ended = run(system, site, "-W", "error", "imports.py")

    assert ended.returncode == 0, ended.stderr
    failed = {line.partition(" ")[0] for line in ended.stdout.splitlines()}
    excused = {f"djserve.supervisor.{name}" for name in PROCESSES}
    assert failed <= (excused if system == "windows" else set()), ended.stdout


SERVERS = {
    "runserver": (["manage.py", "runserver", "--noreload", "PORT"], r" at (\S+)"),
    "runasgi": (
        ["manage.py", "runasgi", "--bind", "127.0.0.1:PORT"],
        r"Listening on (\S+)",
    ),
    "djserve": (
        ["-m", "djserve", "-b", "127.0.0.1", "-p", "PORT", "site_asgi:application"],
        r"Listening on (\S+)",
    ),
}


@pytest.mark.parametrize("server", SERVERS)
def test_server_serves_and_ends_with_a_drain(
    server: str, system: str, site: Path, started: list[subprocess.Popen[str]]
) -> None:
    command, pattern = SERVERS[server]
    process = subprocess.Popen(
        [sys.executable, *(word.replace("PORT", "0") for word in command)],
        cwd=site,
        env=environment(system, site),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    started.append(process)
    assert process.stdout is not None
    url = read_until(process.stdout, pattern)

    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        assert client.get("/").text == "hello"
        assert client.get("/async").text == "async"
        assert client.post("/length", content=b"x" * 100_000).text == "100000"
        assert client.get("/file").content == (site / "site_urls.py").read_bytes()
    with connect(url.replace("http", "ws", 1), open_timeout=PATIENCE) as websocket:
        websocket.send("echo")
        assert websocket.recv(timeout=PATIENCE) == "echo"
    if server == "runserver":
        # A developer does not wait for a slow view.
        process.send_signal(signal.SIGINT)
    else:
        with httpx.stream("GET", f"{url}file", timeout=PATIENCE) as response:
            process.send_signal(signal.SIGINT)
            assert response.read() == (site / "site_urls.py").read_bytes()
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert "KeyboardInterrupt" not in output


def test_workers_serve_on_macos(
    site: Path, started: list[subprocess.Popen[str]]
) -> None:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "runasgi", "--workers=2", "--bind=127.0.0.1:0"],
        cwd=site,
        env=environment("macos", site),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    started.append(process)
    assert process.stdout is not None
    url = read_until(process.stdout, r"Listening on (\S+)")

    assert httpx.get(url, timeout=PATIENCE).text == "hello"
    process.send_signal(signal.SIGHUP)
    read_until(process.stdout, r"(All workers run the new code)")
    with connect(url.replace("http", "ws", 1), open_timeout=PATIENCE) as websocket:
        websocket.send("echo")
        assert websocket.recv(timeout=PATIENCE) == "echo"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert "Traceback" not in output


def test_https_of_the_development_server(
    system: str, site: Path, started: list[subprocess.Popen[str]]
) -> None:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "runserver", "--noreload", "--https", "0"],
        cwd=site,
        env=environment(system, site),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    started.append(process)
    assert process.stdout is not None
    trust = read_until(process.stdout, r"To trust https on this machine: (.*)")
    assert trust.startswith({"windows": "certutil -user", "macos": "security"}[system])
    url = read_until(process.stdout, r" at (\S+)")

    (authority,) = site.rglob("ca.pem")
    context = ssl.create_default_context(cafile=authority)
    assert httpx.get(url, verify=context, timeout=PATIENCE).text == "hello"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_checks_and_live_server_test_cases(system: str, site: Path) -> None:
    checked = run(system, site, "manage.py", "check")
    tested = run(system, site, "manage.py", "test")

    assert checked.returncode == 0, checked.stderr
    assert tested.returncode == 0, tested.stderr
    assert "Ran 1 test" in tested.stderr


@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("WORKERS", ["--workers", "2"]),
        ("USER", ["--user", "nobody"]),
        ("CONTROL_SOCKET", ["--control-socket", "djserve.sock"]),
        ("UNIX_OWNER", ["--unix-owner", "nobody"]),
        ("unix:djserve.sock", ["--bind", "unix:djserve.sock"]),
    ],
)
def test_what_windows_cannot_do_is_one_clear_line(
    key: str, arguments: list[str], site: Path
) -> None:
    ended = run("windows", site, "manage.py", "runasgi", *arguments)

    assert ended.returncode in (1, 2)
    assert "Traceback" not in ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert key in last
    assert "Windows" in last
