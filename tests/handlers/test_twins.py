"""Middleware that keeps something exists once, also if Sentry has chains built."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.utils import module_loading
from django.utils.module_loading import import_string

from djserve.handlers.twins import standing_in

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]


def run(*names: str, agent: str = "sentry") -> Any:
    """Return what the program says of two requests of each kind of view."""
    finished = subprocess.run(
        [sys.executable, "-m", "tests.handlers.counting", agent, *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


def test_hooks_of_both_lanes_count_together() -> None:
    found = run("CountingHooks")

    assert [answer["X-Hooks"] for answer in found["answers"]] == ["1", "2", "3", "4"]
    assert found["made"] == ["hooks"]
    assert found["lane"] == "both"


def test_table_of_both_lanes_is_one() -> None:
    found = run("CountingHooks", "CountingCalls")

    tables = [json.loads(answer["X-Calls"]) for answer in found["answers"]]
    assert tables[-1] == {"/async/": 2, "/sync/": 2}
    assert [answer["X-Hooks"] for answer in found["answers"]] == ["1", "2", "3", "4"]
    assert sorted(found["made"]) == ["calls", "hooks"]
    assert found["lane"] == "both"


@pytest.mark.parametrize("agent", ["sentry", "none"])
def test_one_of_both_modes_counts_the_requests_of_both_lanes(agent: str) -> None:
    found = run("KnowsBothModes", "CountingHooks", agent=agent)

    fields = [answer["X-Both"] for answer in found["answers"]]
    assert fields == ["1 True", "2 True", "3 True", "4 True"]
    assert sorted(found["made"]) == ["both", "hooks"]
    assert found["lane"] == "both"


@pytest.mark.parametrize("agent", ["sentry", "none"])
@pytest.mark.parametrize("name", ["RemembersItsMode", "LearnsItsMode", "NotesItsMode"])
def test_one_that_remembers_its_mode_has_no_twin(name: str, agent: str) -> None:
    found = run(name, agent=agent)

    fields = [answer["X-Both"] for answer in found["answers"]]
    assert fields == ["1 False", "2 False", "3 False", "4 False"]
    assert found["made"] == ["both"]
    assert found["lane"] == "asynchronous"


@pytest.mark.parametrize("name", ["HidesItsHandler", "HidesItDeeply"])
def test_one_without_a_twin_exists_once_and_has_the_asynchronous_lane(
    name: str,
) -> None:
    found = run(name)

    tables = [json.loads(answer["X-Calls"]) for answer in found["answers"]]
    assert tables[-1] == {"/async/": 2, "/sync/": 2}
    assert found["made"] == ["calls"]
    assert found["lane"] == "asynchronous"


def test_the_same_twice_has_no_twin() -> None:
    found = run("CountingHooks", "CountingHooks")

    assert found["made"] == ["hooks", "hooks"]
    assert found["lane"] == "asynchronous"


def test_import_gives_twins_in_the_block_alone() -> None:
    path = "django.middleware.gzip.GZipMiddleware"
    kind, original = import_string(path), module_loading.cached_import

    class Twin(kind):  # type: ignore[misc, valid-type]
        """Stands in."""

    with standing_in({path: Twin}):
        assert import_string(path) is Twin
        assert import_string("django.http.HttpRequest").__name__ == "HttpRequest"
    assert import_string(path) is kind
    assert module_loading.cached_import is original
