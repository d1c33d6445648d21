"""What ``AppConfig.ready()`` starts: once in each worker, nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from djserve.net.control import ask
from tests.e2e.project import add_settings, make_project
from tests.e2e.workers import wait_for

pytestmark = pytest.mark.e2e

APPS = """
import os, threading, time
from pathlib import Path
import djserve
from django.apps import AppConfig

def run():
    with open(Path(__file__).parent / "started", "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(600)

class ShopConfig(AppConfig):
    name = "shop"

    def ready(self):
        if djserve.is_worker():
            threading.Thread(target=run, daemon=True).start()
"""


def test_thread_of_ready_runs_once_in_each_worker(
    start_server: Callable[..., Any], free_port: int, tmp_path: Path
) -> None:
    folder = make_project(tmp_path / "project")
    (folder / "shop").mkdir()
    (folder / "shop" / "apps.py").write_text(APPS)
    (folder / "shop" / "__init__.py").touch()
    control = str(folder / "control")
    add_settings(
        folder,
        'INSTALLED_APPS = ["djserve", "shop", *INSTALLED_APPS]',
        'ASGI_APPLICATION = "mysite.asgi.application"',
        'DJSERVE = {"WORKERS": 2, "PROCESSES": {"other": {"command": ["check"]}}}',
    )
    server = start_server(
        *("manage.py", "runasgi", str(free_port), "--control-socket", control),
        port=free_port,
        cwd=folder,
        env={"DJANGO_SETTINGS_MODULE": "mysite.settings"},
    )
    server.wait_for("Supervisor")

    def workers() -> list[int]:
        answer = ask(control, {"command": "status"}, 60)
        return sorted(each["process"] for each in answer["workers"])

    def started() -> list[int]:
        return sorted(map(int, (folder / "shop" / "started").read_text().split()))

    wait_for(lambda: len(started()) >= 2, 0.1)
    assert started() == workers()
