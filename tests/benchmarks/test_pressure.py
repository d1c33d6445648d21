"""Each kind of client that holds on, a few of them, against a real server."""

from __future__ import annotations

import re

import pytest

from benchmarks.pressure import CASES, Case, run

pytestmark = pytest.mark.e2e

FEW = [case for case in CASES if "uploads" not in case.name]


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_clients_are_kept_and_honest_ones_served(case: Case) -> None:
    line = run("djserve", case, 3 / case.count, 3.0)

    found = re.fullmatch(
        r"-?\d+ MiB \| 0 MiB \| 3 of 3 \| [\d.]+ ms of (\d+), 0 failed", line
    )
    assert found, line
    assert int(found[1]) > 0
