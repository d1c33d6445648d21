"""The two servers of a comparison, on a project with one package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.conftest import ROOT, find_free_port
from tests.ecosystem.package import Package

SETTINGS = "tests.ecosystem.project.settings"
DJSERVE, UVICORN = "djserve", "uvicorn"
HANDLER = re.compile(r"run by (.*)$", re.MULTILINE)


def environment_of(package: Package, place: Path, **more: str) -> dict[str, str]:
    return {
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "ECOSYSTEM_PACKAGE": package.name,
        "ECOSYSTEM_FOLDER": str(place),
        "PYTHONPATH": str(ROOT),
        **package.environment,
        **more,
    }


def prepare(environment: dict[str, str]) -> None:
    """Make the database of a run."""
    command = [sys.executable, "-m", "tests.ecosystem.project.prepare"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def command_of(package: Package, server: str, port: int) -> list[str]:
    """Return what follows the interpreter to serve the package's project."""
    if server == UVICORN:
        words = ["uvicorn", package.application, "--port", str(port), "--no-access-log"]
    elif package.django:
        words = ["django", "runasgi", f"127.0.0.1:{port}"]
    else:
        words = ["djserve", package.application, "--bind", f"127.0.0.1:{port}"]
    return ["-m", "tests.ecosystem.launch", *words]


def handler_of(log: str) -> str:
    """Return which handler a server says it uses."""
    found = HANDLER.search(log)
    return found[1] if found else "the application alone"


class Collector:
    """An HTTP server that keeps what is sent to it, as an agent's service would."""

    def __init__(self) -> None:
        received: list[tuple[str, bytes]] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                received.append((self.path, self.rfile.read(size)))
                body = b"{}"
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_PUT = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self.received = received
        self._server = ThreadingHTTPServer(("127.0.0.1", find_free_port()), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(60)
