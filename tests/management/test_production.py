"""The project as the supervisor's program; what it changes, it changes in a process."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path, register_converter

from djserve.conf.parser import parse
from djserve.handlers import runtime
from djserve.handlers.runtime import close_shared_pool, make_lease, shared_pool
from djserve.management.production import (
    create_program,
    describe_view,
    read_thread_stats,
)

Script = Callable[..., str]

SETTINGS = """
ALLOWED_HOSTS = ["*"]
SECRET_KEY = "for tests"
INSTALLED_APPS = ["djserve"]
ROOT_URLCONF = "urls"
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"},
    "unused": {"ENGINE": "django.db.backends.sqlite3", "NAME": "unused.sqlite3"},
}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "unused": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
"""


@pytest.fixture
def run_in_project(tmp_path: Path) -> Script:
    """Give ``run_in_project(code, settings="")``: what the code prints, errors too."""

    def run(code: str, settings: str = "") -> str:
        (tmp_path / "settings.py").write_text(SETTINGS + settings)
        (tmp_path / "urls.py").write_text("urlpatterns = []\n")
        return subprocess.run(
            [sys.executable, "-c", f"import django\ndjango.setup()\n{code}"],
            check=True,
            cwd=tmp_path,
            env={"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        ).stdout

    return run


LOAD = """
from djserve.conf.loader import load
from djserve.management.production import create_program
loaded = create_program(load()).load()
print(callable(loaded.application), *loaded.notes, sep="; ")
"""


@pytest.mark.e2e
def test_program_loads_the_project(run_in_project: Script) -> None:
    output = run_in_project(LOAD)

    assert output.startswith("True; Application: django.core.asgi.get_asgi_application")
    assert "run by djserve's handler" in output
    assert "DEBUG" not in output


@pytest.mark.e2e
def test_debug_in_production_is_warned_of(run_in_project: Script) -> None:
    output = run_in_project(LOAD, "DEBUG = True\n")

    assert "DEBUG is on: errors show settings and source to everyone" in output


@pytest.mark.e2e
def test_project_that_cannot_be_imported_is_a_configuration_error(
    run_in_project: Script,
) -> None:
    code = f"""
from djserve.errors import ConfigError
try:
    {LOAD.strip().replace(chr(10), chr(10) + "    ")}
except ConfigError as error:
    print("refused:", *error.problems)
"""
    output = run_in_project(code, 'ASGI_APPLICATION = "nowhere.application"\n')

    assert output.startswith("refused:")
    assert "nowhere" in output


@pytest.mark.e2e
def test_database_connections_are_closed_before_a_fork(run_in_project: Script) -> None:
    code = """
from django.db import connections
from djserve.management.production import close_handles
connections["default"].ensure_connection()
close_handles()
print(connections["default"].connection)
print([each.alias for each in connections.all(initialized_only=True)])
connections["default"].ensure_connection()
print(connections["default"].is_usable())
"""
    assert run_in_project(code) == "None\n['default']\nTrue\n"


@pytest.mark.e2e
def test_cache_and_channel_layer_are_made_anew_after_a_fork(
    run_in_project: Script,
) -> None:
    code = """
from channels.layers import get_channel_layer
from django.core.cache import caches
from djserve.management.production import close_handles
before = caches["default"], get_channel_layer()
assert before == (caches["default"], get_channel_layer())
close_handles()
print(before[0] is caches["default"], before[1] is get_channel_layer())
"""
    assert run_in_project(code) == "False False\n"


@pytest.mark.e2e
def test_project_without_channels_has_no_layers_to_forget(
    run_in_project: Script,
) -> None:
    code = """
import sys
from djserve.management.production import close_handles
close_handles()
print("channels.layers" in sys.modules)
"""
    assert run_in_project(code) == "False\n"


@override_settings(ROOT_URLCONF="demo_project.urls")
@pytest.mark.parametrize(
    ("scope", "view"),
    [
        ({"type": "http", "path": "/status/"}, "demo_project.status.views.index"),
        (
            {"type": "http", "path": "/app/status/", "root_path": "/app"},
            "demo_project.status.views.index",
        ),
        ({"type": "http", "path": "/no/such/page"}, ""),
        ({"type": "websocket", "path": "/status/"}, ""),
    ],
    ids=["view", "below-a-prefix", "no-view", "websocket"],
)
def test_request_is_described_by_its_view(scope: dict[str, str], view: str) -> None:
    importlib.import_module("demo_project.urls")

    assert describe_view(scope) == view


@override_settings(ROOT_URLCONF="demo_project.no_such_urls")
def test_view_is_not_looked_up_where_that_would_import_it() -> None:
    assert describe_view({"type": "http", "path": "/status/"}) == ""


def test_view_is_not_looked_up_with_a_path_converter_of_the_project() -> None:
    asked: list[str] = []

    class Converter:
        regex = "[a-z]+"

        def to_python(self, value: str) -> str:
            asked.append(value)
            return value

        def to_url(self, value: str) -> str:
            return value

    register_converter(Converter, "asking")
    urls = ModuleType("asking_urls")
    urls.__dict__["urlpatterns"] = [path("<asking:name>/", HttpResponse)]
    with override_settings(ROOT_URLCONF=urls):
        assert describe_view({"type": "http", "path": "/status/"}) == ""
    assert asked == []


def test_threads_are_those_of_the_shared_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    close_shared_pool(60)
    monkeypatch.setattr(runtime, "_configured", parse({"THREADS": 1}))
    gate = threading.Event()
    leases = [make_lease(shared_pool()) for _ in range(3)]
    futures = [lease.submit(gate.wait, 120) for lease in leases]
    stats = read_thread_stats()
    gate.set()

    assert (stats.threads, stats.running, stats.queued) == (1, 1, 2)
    assert all(future.result(120) for future in futures)
    close_shared_pool(60)


def test_program_knows_what_a_fork_must_not_share() -> None:
    program = create_program(parse({}))

    assert program.before_fork.__name__ == "close_handles"
    assert program.describe is describe_view
    assert program.thread_stats is read_thread_stats


@pytest.mark.e2e
def test_what_is_loaded_is_kept_from_the_garbage_collector(
    run_in_project: Script,
) -> None:
    code = """
import gc
from djserve.conf.loader import load
from djserve.management.production import create_program

create_program(load()).load()
print(gc.get_freeze_count() > 10_000, len(gc.get_objects()) < 10_000)
"""

    assert run_in_project(code).splitlines()[-1] == "True True"
