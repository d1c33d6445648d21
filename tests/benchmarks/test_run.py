"""One short scenario, from the command line to the table and the figures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.model import Results

pytestmark = pytest.mark.e2e

COMMAND = [sys.executable, "-m", "benchmarks", "--here"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=240
    )


def test_scenario_runs_and_writes_its_results(tmp_path: Path) -> None:
    # On a busy machine, nothing may come back within a second.
    options = ["--servers", "djserve", "--rounds", "1", "--seconds", "5"]
    done = run("websocket_echo", *options, "--output", str(tmp_path))
    results = Results.read(tmp_path / "results.json")

    assert done.returncode == 0, done.stderr
    assert "[   1/1" in done.stdout
    assert (results.rows[0].median("djserve") or 0) > 0
    assert "Echo of 64 bytes" in (tmp_path / "results.md").read_text("utf-8")


def test_nothing_is_left_running(tmp_path: Path) -> None:
    options = ["--servers", "djserve", "--rounds", "1", "--output", str(tmp_path)]
    marker = f"BENCH_TEST={tmp_path}"
    subprocess.run(
        [*COMMAND, "start", *options],
        env={**os.environ, "BENCH_TEST": str(tmp_path)},
        check=True,
        capture_output=True,
        timeout=120,
    )

    assert processes_with(marker) == []


@pytest.mark.parametrize("option", ["--list", "--help"])
def test_bare_python_can_say_what_there_is(option: str) -> None:
    # -S leaves out what is installed: the first run only makes the environment.
    done = subprocess.run(
        [sys.executable, "-S", "-m", "benchmarks", option],
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr


def test_plan_measures_nothing() -> None:
    done = run("--goals", "--plan")

    assert done.returncode == 0, done.stderr
    assert "about" in done.stdout
    assert "[   1/" not in done.stdout


def test_unknown_scenario_is_refused() -> None:
    done = run("nonsense")

    assert done.returncode == 2
    assert "nonsense" in done.stderr


@pytest.mark.parametrize("inner", ["", "inner"])
def test_output_that_can_be_no_folder_is_refused_first(
    inner: str, tmp_path: Path
) -> None:
    file = tmp_path / "results"
    file.write_text("kept")
    done = run("start", "--output", str(file / inner))

    assert done.returncode == 2
    assert done.stderr.startswith(f"The results cannot go to {file / inner}: ")
    assert "[   1/" not in done.stdout
    assert file.read_text() == "kept"


def processes_with(variable: str) -> list[str]:
    """Return the ids of processes that have this in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            environ = (entry / "environ").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if variable.encode() in environ.split(b"\0"):
            found.append(entry.name)
    return found
