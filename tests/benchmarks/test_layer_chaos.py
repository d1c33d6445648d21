from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.layer_chaos import Tally

ROOT = Path(__file__).resolve().parents[2]
# Each act ends once every socket has been reached again.
SHORT = ["--rate=40", "--sockets=8", "--groups=2", "--seconds=0.2", "--acts=hup1,kill"]


@pytest.mark.e2e
def test_rolled_and_killed_workers_lose_nothing_of_living_sockets() -> None:
    command = [sys.executable, "-m", "benchmarks.layer_chaos", *SHORT]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = ended.stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["hup1", "kill"]
    assert all(" 0 lost" in row and " 0 got" not in row for row in rows)


def test_row_leaves_out_the_worker_that_was_stopped() -> None:
    tally = Tally(got=9, lost=1, connections=2, delays=[(1, 9.0)] + 9 * [(2, 0.001)])

    assert tally.row("stop", but=1).split() == [
        *("stop", "9", "got", "1", "lost", "2", "new", "connections", "1.0", "ms"),
        "p99",
    ]
