"""Each kind of client that holds on, a few of them, against a real server."""

from __future__ import annotations

import re

import pytest

from benchmarks.pressure import CASES, MIB, Bounds, Case, run

pytestmark = pytest.mark.e2e

FEW = [case for case in CASES.values() if not case.is_on_disk]
BOUNDS = Bounds(memory=2**33, disk=2**33)


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_clients_are_kept_and_honest_ones_served(case: Case) -> None:
    line = run("djserve", case, 3 / case.count, 0.5, BOUNDS)

    found = re.fullmatch(
        r"-?\d+ MiB \| 0 MiB \| 3 of 3 \| [\d.]+ ms of (\d+), 0 failed", line
    )
    assert found, line
    assert int(found[1]) > 0


def test_server_that_fills_the_disk_is_ended() -> None:
    bounds = Bounds(memory=2**33, disk=32 * MIB)
    line = run("djserve", CASES["uploads"], 1 / 50, 3600.0, bounds)

    found = re.fullmatch(r"-?\d+ MiB \| (\d+) MiB \| ended: that is too much \| ", line)
    assert found, line
    assert int(found[1]) > 32
