"""The quick rows of the table; ``python -m tests.faults`` does all."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from tests.faults.__main__ import run_row, update_table
from tests.faults.table import ROWS, Row

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prlimit"),
]

QUICK = [row for row in ROWS if row.is_quick]


def test_rows_are_many_and_each_has_its_name() -> None:
    counted = Counter((row.group, row.name) for row in ROWS)

    assert len(ROWS) >= 40
    assert set(counted.values()) == {1}


@pytest.mark.parametrize("row", QUICK, ids=lambda row: f"{row.group}: {row.name}")
def test_fault(row: Row) -> None:
    if not row.needs():
        pytest.skip("this machine has not what it takes")
    assert run_row(row).failure == ""


def test_rows_that_were_not_run_stay_in_the_page() -> None:
    first, second, third = (f"| {row.group} | {row.name} |" for row in ROWS[:3])
    head = "| | Fault |\n| --- | --- |"
    old = f"{head}\n{first} old |\n{third} old |\n| Gone | gone | old |\n"
    new = f"{head}\n{second} new |\n{third} new |\n"

    assert update_table(old, new) == (
        f"{head}\n{first} old |\n{second} new |\n{third} new |\n"
    )
