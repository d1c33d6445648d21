"""Counted instructions, and the budget for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import counted_starts, counts
from benchmarks.counted import LENGTHS

if TYPE_CHECKING:
    from pathlib import Path

BUDGET = counts.Budget(
    {"python": "3.11"}, 1000, {"hello": 5000, "event": 2000}, {"start": 100}
)


def test_difference_of_two_lengths_is_what_one_takes() -> None:
    short, long = LENGTHS
    output = f"hello {short} 41\nhello {long} 42\n"
    counted = f"==41== Collected : 1000\n==42== Collected : {1000 + 7 * (long - short)}"

    assert counts.difference(output, counted) == {"hello": 7}


@pytest.mark.parametrize(
    ("reference", "hello", "is_allowed"),
    [
        (1000, 5000, True),
        (1000, 5100, True),
        (1000, 5101, False),
        # Another processor: both take more.
        (1100, 5500, True),
        (1100, 5611, False),
        (900, 5000, False),
    ],
)
def test_operation_may_take_two_percent_more(
    reference: int, hello: int, is_allowed: bool
) -> None:
    problems = BUDGET.judge({counts.REFERENCE: reference, "hello": hello}, {})

    assert (problems == []) is is_allowed
    assert all(problem.startswith("hello: ") for problem in problems)


def test_start_may_import_three_percent_more_modules() -> None:
    counted = {counts.REFERENCE: 1000}

    assert BUDGET.judge(counted, {"start": 103}) == []
    assert BUDGET.judge(counted, {"start": 104}) == [
        "start: 104 modules are imported, and the budget is 100"
    ]


def test_operation_without_a_budget_is_a_problem() -> None:
    problems = BUDGET.judge({counts.REFERENCE: 1000, "new": 1}, {})

    assert problems == ["new: the budget does not have it"]


def test_budget_is_read_as_it_was_written(tmp_path: Path) -> None:
    BUDGET.write(tmp_path / "budget.json")

    assert counts.Budget.read(tmp_path / "budget.json") == BUDGET


def test_committed_budget_has_each_kind() -> None:
    budget = counts.Budget.read(counts.BUDGET)

    assert set(budget.instructions) == set(counts.KINDS)
    assert set(budget.modules) == set(counted_starts.COMMANDS)
    assert set(budget.versions) == set(counts.versions())


def test_other_versions_are_not_judged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(counts, "BUDGET", tmp_path / "budget.json")
    BUDGET.write(counts.BUDGET)

    assert counts.perform(["hello"], check=True, write=False) == 0
    assert capsys.readouterr().out.startswith("Not judged: ")


@pytest.mark.parametrize("is_same", [True, False])
def test_budget_of_what_was_not_counted_is_kept_for_the_same_versions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, is_same: bool
) -> None:
    monkeypatch.setattr(counts, "BUDGET", tmp_path / "budget.json")
    versions = counts.versions() if is_same else {"python": "3.0"}
    counts.Budget(versions, 1000, {"hello": 5000, "event": 2000}, {"start": 9}).write(
        counts.BUDGET
    )
    monkeypatch.setattr(
        counts, "count", lambda _: ({counts.REFERENCE: 1100, "event": 1980}, {})
    )

    assert counts.perform(["event"], check=False, write=True) == 0

    budget = counts.Budget.read(counts.BUDGET)
    assert budget.reference == 1100
    assert budget.instructions == ({"hello": 5500} if is_same else {}) | {"event": 1980}
    assert budget.modules == ({"start": 9} if is_same else {})
