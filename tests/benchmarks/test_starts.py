"""Starts and reloads: what is read of a server, and the tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import processes
from benchmarks.servers import cores
from benchmarks.starts import (
    RUNSERVERS,
    UVICORN_RELOAD,
    Start,
    command_of,
    compare,
    measure_reload,
    measure_start,
    processor_time,
    reload_command,
    render_reloads,
    render_starts,
    save_version,
    write_site,
)

BUSY_THREAD = """
import sys, threading, time

def work():
    while time.thread_time() < 0.1:
        pass
    used.set()
    sys.stdin.read()

used = threading.Event()
threading.Thread(target=work).start()
used.wait()
print(time.thread_time(), flush=True)
"""


def test_table_has_medians_and_the_ratio_of_pairs() -> None:
    found = {
        "djserve": [Start(300, 200, 500), Start(400, 300, 500), Start(900, 210, 500)],
        "uvicorn": [Start(250, 100, 300), Start(350, 200, 300), Start(300, 100, 300)],
    }

    assert render_starts("Raw", found, "djserve").splitlines()[2:] == [
        "| djserve | 400 | 210 | 500 | 1.00 |",
        "| uvicorn | 300 | 100 | 300 | 2.00 |",
    ]


def test_table_of_reloads_has_the_least_and_the_most() -> None:
    rendered = render_reloads({"runserver": [900.4, 1500, 1100]})

    assert rendered.splitlines()[2:] == ["| runserver | 1100 | 900 | 1500 |"]


def test_servers_take_turns_in_both_orders() -> None:
    measured: list[str] = []

    def measure(name: str) -> Start:
        measured.append(name)
        return Start(1, 1, 1)

    found = compare(["a", "b"], 2, measure)

    assert measured == ["a", "b", "a", "b", "b", "a"]
    assert {name: len(starts) for name, starts in found.items()} == {"a": 2, "b": 2}


def test_no_two_versions_are_equally_long(tmp_path: Path) -> None:
    sizes = set()
    for version in range(12):
        save_version(tmp_path, version)
        sizes.add((tmp_path / "site_version.py").stat().st_size)

    assert len(sizes) == 12


@pytest.mark.parametrize("name", [*RUNSERVERS, UVICORN_RELOAD])
def test_what_reloads_watches_files(name: str, tmp_path: Path) -> None:
    command = reload_command(name, tmp_path, 28001)

    assert ("runserver" in command) == (name in RUNSERVERS)
    assert "--noreload" not in command


def test_start_of_a_runserver_has_no_reloader() -> None:
    assert "--noreload" in command_of("runserver", "", 28001)
    assert "runasgi" in command_of("djserve", "site_asgi:application", 28001)
    assert "site_raw:application" in command_of("djserve", "site_raw:application", 1)


@pytest.mark.e2e
def test_processor_time_is_that_of_all_threads() -> None:
    command = [sys.executable, "-c", BUSY_THREAD]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdin
        of_main_thread = float(process.stdout.readline())
        used = processor_time(process.pid)
        process.stdin.close()

    assert used > of_main_thread + 0.09


@pytest.mark.e2e
def test_what_is_measured_keeps_compiled_modules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    core, _ = cores()
    script = "import sys; print(sys.dont_write_bytecode)"

    assert processes.run([sys.executable, "-c", script], core, 60).strip() == "False"


@pytest.mark.e2e
def test_start_of_djserve_is_measured(tmp_path: Path) -> None:
    write_site(tmp_path)
    try:
        start = measure_start("djserve", "site_raw:application", tmp_path)
    finally:
        processes.end_all()

    assert start.milliseconds > 0
    assert start.cpu > 0
    assert 100 < start.modules < 2000


@pytest.mark.e2e
def test_reload_of_djserve_is_measured(tmp_path: Path) -> None:
    write_site(tmp_path)
    try:
        [milliseconds] = measure_reload("djserve runserver", tmp_path, 1)
    finally:
        processes.end_all()

    assert milliseconds > 0
