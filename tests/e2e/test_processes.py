"""Processes beside the web workers, as an operator sees them."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from djserve.net.control import ask
from tests.e2e.workers import wait_for

pytestmark = pytest.mark.e2e

APP = """
async def application(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})
"""


def test_crash_loop_leaves_workers_and_others_alone(
    start_server: Callable[..., Any], free_port: int, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "settings.py").write_text(
        f"""
SECRET_KEY = "x"
DJSERVE = {{
    "PROCESSES": {{
        "good": {{"program": [{sys.executable!r}, "good.py"]}},
        "bad": {{"program": ["sh", "-c", "echo oops; exit 3"]}},
    }}
}}
"""
    )
    (tmp_path / "good.py").write_text("import time; print('up'); time.sleep(600)")
    control = str(tmp_path / "control")
    words = ["-m", "djserve", "app:application", "--control-socket", control]
    words += ["--bind", f"127.0.0.1:{free_port}"]
    env = {"DJANGO_SETTINGS_MODULE": "settings"}
    server = start_server(*words, port=free_port, cwd=tmp_path, env=env)
    server.wait_for("Processes alongside the workers: good (1), bad (1)")
    server.wait_for("good 1: up")
    server.wait_for("ended with exit code 3; the next start is in 0.5 seconds")

    def status() -> dict[str, Any]:
        answer = ask(control, {"command": "status"}, 60)
        return {each["name"]: each for each in answer["processes"]}

    wait_for(lambda: status()["bad"]["restarts"] >= 2, 0.1)
    assert status()["good"]["restarts"] == 0
    with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/", timeout=60) as page:
        assert page.read() == b"served"
    request = {"command": "scale", "process": "good", "workers": 2}
    assert ask(control, request, 60) == {"ok": True}
    wait_for(lambda: len(status()["good"]["running"]) == 2, 0.1)
