"""The fixture, as pytest finds it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from django.contrib.auth.models import User

from djserve.testing import pytest_plugin
from djserve.testing.fixture import ProjectServer

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]

TESTS = """
import importlib.util
import runpy
import sys

LOADED = {name for name in sys.modules if name.partition(".")[0] == "djserve"}


def test_modules_are_loaded_as_without_pytest():
    assert LOADED == {
        "djserve",
        "djserve.conf",
        "djserve.conf.process",
        "djserve.testing",
        "djserve.testing.pytest_plugin",
    }
    spec = importlib.util.find_spec("djserve.errors")
    assert type(spec.loader).__name__ == "SourceFileLoader"


def test_modules_run():
    assert "main" in runpy.run_module("djserve.cli", run_name="not main")


def test_own_assertions_are_rewritten():
    try:
        assert 1 == 1 + 1
    except AssertionError as error:
        assert "assert 1 == (1 + 1)" in str(error)
"""


def test_plugin_is_registered(pytestconfig: pytest.Config) -> None:
    plugin = pytestconfig.pluginmanager.get_plugin("djserve")

    assert plugin is pytest_plugin


def test_fixture_serves_the_project_with_its_database(
    djserve_live_server: ProjectServer,
) -> None:
    User.objects.create_user("anna", password="secret-anna")
    with httpx.Client(base_url=djserve_live_server.url, timeout=60) as client:
        client.get("/accounts/login/")
        form = {
            "username": "anna",
            "password": "secret-anna",
            "csrfmiddlewaretoken": client.cookies["csrftoken"],
        }
        response = client.post("/accounts/login/", data=form)

    assert response.status_code == 302
    assert "sessionid" in client.cookies


def test_installed_plugin_leaves_imports_alone(tmp_path: Path) -> None:
    # As pip lays it out: pytest looks at the list of a plugin's files.
    site = tmp_path / "site"
    info = site / "djserve-0.1.0.dist-info"
    info.mkdir(parents=True)
    (site / "djserve").symlink_to(ROOT / "djserve")
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: djserve\nVersion: 0.1.0\n"
    )
    (info / "RECORD").write_text("djserve/__init__.py,,\ndjserve/errors.py,,\n")
    (info / "entry_points.txt").write_text(
        "[pytest11]\ndjserve = djserve.testing.pytest_plugin\n"
    )
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:django"]
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTEST_ADDOPTS": ""}
    run = subprocess.run(
        [*command, "-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "3 passed" in run.stdout
