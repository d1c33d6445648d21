"""Plain http beside https, in one process and with workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trustme

from tests.conftest import find_free_port
from tests.e2e.project import add_settings, make_project
from tests.e2e.workers import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("workers", ["1", "2"])
def test_project_is_served_by_https_alone(
    tmp_path: Path, start_server: Callable[..., Any], free_port: int, workers: str
) -> None:
    authority, pem = trustme.CA(), tmp_path / "pem"
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
    project = make_project(tmp_path / "project")
    add_settings(
        project, "DEBUG = False", 'ALLOWED_HOSTS = ["localhost"]', "STATIC_ROOT = None"
    )
    plain_port, pid_file = find_free_port(), tmp_path / "pid"
    words = ["-m", "django", "runasgi", f"127.0.0.1:{free_port}", "--workers", workers]
    words += ["--certfile", str(pem), "--redirect-http", f"127.0.0.1:{plain_port}"]
    words += ["--pid-file", str(pid_file)]
    add_settings(project, 'INSTALLED_APPS.insert(0, "djserve")')
    env = {"DJANGO_SETTINGS_MODULE": "mysite.settings"}
    server = start_server(*words, port=free_port, cwd=project, env=env)
    server.wait_for("Redirecting http on")

    def redirected() -> None:
        with httpx.Client(timeout=120) as client:
            url = f"http://127.0.0.1:{plain_port}/admin/?a=1"
            known = client.get(url, headers={"Host": f"localhost:{plain_port}"})
            unknown = client.get(url, headers={"Host": "evil.com"})
            posted = client.post(url, headers={"Host": "localhost"}, content=b"x")
        target = f"https://localhost:{free_port}/admin/?a=1"
        assert (known.status_code, known.headers["location"]) == (301, target)
        assert (posted.status_code, posted.headers["location"]) == (308, target)
        assert (unknown.status_code, unknown.headers.get("location")) == (400, None)

    redirected()
    assert "SECURE_HSTS_SECONDS is 0" in server.output
    assert "Traceback" not in server.output
    if workers == "1":
        assert server.stop() == 0
        return
    # A successor takes the sockets over, and knows which is which.
    server.process.send_signal(signal.SIGUSR2)
    assert server.process.wait(120) == 0
    successor = int(pid_file.read_text())
    try:
        assert successor != server.process.pid
        redirected()
    finally:
        os.kill(successor, signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{successor}").exists())
