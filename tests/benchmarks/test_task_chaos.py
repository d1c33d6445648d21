from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import postgresql
from benchmarks.task_chaos import plan

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["--tasks=40", "--seconds=0.02", "--rolls=1", "--kills=1", "--lost-after=1"]


@pytest.mark.e2e
@pytest.mark.parametrize("options", [(), ("--postgresql",)], ids=["sqlite", "pg"])
def test_rolled_and_killed_workers_lose_no_task(options: tuple[str, ...]) -> None:
    if options and not postgresql.is_installed():
        pytest.skip("PostgreSQL is not installed")
    command = [sys.executable, "-m", "benchmarks.task_chaos", *SHORT, *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "acts: 1 rolls, 1 kills" in ended.stdout
    assert "ran 40, lost 0" in ended.stdout
    assert "rows {'SUCCESSFUL': 40}" in ended.stdout
    assert ", failed 0\n" in ended.stdout
    assert "times, failed 0," in ended.stdout


def test_both_kinds_of_acts_are_spread() -> None:
    assert plan(2, 1) == ["roll", "kill", "roll"]
    assert plan(1, 3) == ["kill", "kill", "roll", "kill"]
    assert plan(0, 0) == []
