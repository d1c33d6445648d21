"""One short scenario, from the command line to the table and the figures."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.model import Results
from tests.support.waiting import wait_until

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

    assert_none_is_left(marker)


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


def test_missing_tool_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "websocket_echo", "http1_hello", "--output", str(tmp_path)],
        env={**os.environ, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 2
    assert "wrk is missing: apt-get install wrk (wanted by http1_hello)" in done.stderr
    assert "[   1/" not in done.stdout


def test_part_of_a_run_is_not_published(tmp_path: Path) -> None:
    done = run("websocket_echo", "--publish", "--output", str(tmp_path))

    assert done.returncode == 2
    assert done.stderr.startswith("--publish needs a whole run")
    assert "[   1/" not in done.stdout


@pytest.mark.parametrize("text", [None, "", "{}", "[]"])
def test_file_without_results_is_refused(text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    if text is not None:
        file.write_text(text)
    done = run("--report", str(file))

    assert done.returncode == 2
    assert done.stderr.startswith(f"{file} has no results: ")


async def interrupt(arguments: list[str], number: int, folder: Path) -> int:
    """Begin a run, interrupt it once it has started a process; return its exit code.

    All it starts are known by the folder for temporary files.
    """
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        env={**os.environ, "TMPDIR": str(folder), "BENCH_FOLDER": str(folder)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    await wait_until(lambda: len(processes_with(f"BENCH_FOLDER={folder}")) > 2)
    process.send_signal(number)
    return await process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_run_leaves_nothing_running(number: int, tmp_path: Path) -> None:
    options = ["--servers", "djserve", "--seconds", "600", "--output", str(tmp_path)]

    assert asyncio.run(interrupt(["websocket_echo", *options], number, tmp_path)) == 130
    assert_none_is_left(f"BENCH_FOLDER={tmp_path}")


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


def assert_none_is_left(variable: str) -> None:
    """Wait for the end of those that have been killed: only their leader is awaited."""
    asyncio.run(wait_until(lambda: not processes_with(variable)))


def processes_with(variable: str) -> list[str]:
    """Return the ids of processes that have a variable that begins so."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            environ = (entry / "environ").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if any(each.startswith(variable.encode()) for each in environ.split(b"\0")):
            found.append(entry.name)
    return found
