"""Counted instructions, and the budget for them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from benchmarks import counted_starts, counts, environment
from benchmarks.counted import LENGTHS
from benchmarks.processes import BenchmarkError
from tests.support.waiting import wait_until

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


def test_start_that_the_budget_does_not_have_is_named_once() -> None:
    counted = {counts.REFERENCE: 1000, "start_django": 7000}

    assert BUDGET.judge(counted, {"start_django": 300}) == [
        "start_django: the budget does not have it"
    ]


def test_problem_names_the_operation_what_it_took_and_the_budget() -> None:
    [problem] = BUDGET.judge({counts.REFERENCE: 1000, "hello": 5500}, {})

    assert problem == (
        "hello: 5,500 instructions, 10.0% more than the budget's 5,000;"
        " up to 2% is allowed"
    )


@pytest.mark.parametrize(
    ("taken", "code", "output", "errors"),
    [
        (5100, 0, "hello                        5,100    +2.0% of 5,000", ""),
        (5500, 1, "hello                        5,500   +10.0% of 5,000", "hello: 5,"),
    ],
)
def test_check_says_how_far_each_count_is_from_its_budget(
    taken: int,
    code: int,
    output: str,
    errors: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(counts, "BUDGET", tmp_path / "budget.json")
    replace(BUDGET, versions=counts.versions()).write(counts.BUDGET)
    counted = {counts.REFERENCE: 1000, "hello": taken}
    monkeypatch.setattr(counts, "count", lambda kinds: (counted, {}))

    assert counts.perform(["hello"], check=True, write=False) == code
    printed = capsys.readouterr()
    assert output in printed.out.splitlines()
    assert ("All within the budget" in printed.out) is (code == 0)
    assert printed.err.startswith(errors)


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


COUNTED = {counts.REFERENCE: 1000, "hello": 5000, "start": 9000}


@pytest.mark.parametrize(
    ("budgeted", "counted", "problem"),
    [
        (({}, {}), ({"hello": 0}, {}), "hello: not counted"),
        (({}, {}), ({"start": 0}, {}), "start: not counted"),
        (({}, {}), ({}, {"start": 0}), "start: its modules are not counted"),
        (({"hello": 0}, {}), ({}, {}), "hello: the budget does not have it"),
        (({"start": 0}, {}), ({}, {}), "start: the budget does not have it"),
        (({}, {"start": 0}), ({}, {}), "start: its modules are not counted"),
        # What is left out of all of them is not seen by a comparison of two.
        (({}, {"start": 0}), ({}, {"start": 0}), "start: its modules are not counted"),
    ],
)
def test_row_that_either_side_lacks_is_a_problem(
    budgeted: tuple[dict[str, int], dict[str, int]],
    counted: tuple[dict[str, int], dict[str, int]],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The tables have all rows but those that are named here."""

    def without(
        lacking: tuple[dict[str, int], dict[str, int]],
    ) -> tuple[dict[str, int], dict[str, int]]:
        instructions, modules = lacking
        return (
            {kind: COUNTED[kind] for kind in COUNTED if kind not in instructions},
            {} if modules else {"start": 100},
        )

    monkeypatch.setattr(counts, "BUDGET", tmp_path / "budget.json")
    instructions, modules = without(budgeted)
    counts.Budget(counts.versions(), 1000, instructions, modules).write(counts.BUDGET)
    monkeypatch.setattr(counts, "count", lambda kinds: without(counted))

    assert counts.perform([], check=True, write=False) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(problem)
    assert "All within the budget" not in printed.out


@pytest.fixture
def restarts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Return a list of the restarts, none of which takes place."""
    restarts: list[list[str]] = []

    def ensure(target: Path, requirements: list[str]) -> Path:
        return target / "bin" / "python"

    def restart(python: Path, arguments: list[str]) -> NoReturn:
        restarts.append([str(python), *arguments])
        raise SystemExit

    monkeypatch.setenv("COUNTS_VENV", str(tmp_path / "counts"))
    monkeypatch.setattr(counts, "BUDGET", tmp_path / "budget.json")
    monkeypatch.setattr(environment, "ensure", ensure)
    monkeypatch.setattr(environment, "restart", restart)
    return restarts


def write_budget(**others: str) -> None:
    replace(BUDGET, versions=counts.versions() | others).write(counts.BUDGET)


def test_check_goes_on_where_the_packages_are_those_of_the_budget(
    restarts: list[list[str]], tmp_path: Path
) -> None:
    write_budget(h2="4.0.1", django="5.0")

    with pytest.raises(SystemExit):
        counts.perform(["hello"], check=True, write=False)

    python = str(tmp_path / "counts" / "bin" / "python")
    assert restarts == [[python, "--here", "--check-budget", "hello"]]


def test_environment_gets_the_versions_of_the_budget() -> None:
    versions = {"django": "5.2", "h2": "4.3.0", "uvloop": "0.23.0", "python": "3.11"}

    requirements = replace(BUDGET, versions=versions).requirements()

    assert requirements[-3:] == ["django==5.2.*", "h2==4.3.0", "uvloop==0.23.0"]
    assert any(each.startswith("twisted") for each in requirements)


@pytest.mark.parametrize("name", ["python", "machine"])
def test_what_no_installation_changes_is_not_judged(
    name: str, restarts: list[list[str]]
) -> None:
    write_budget(**{name: "other", "h2": "4.0.1"})
    here = counts.versions()

    with pytest.raises(BenchmarkError) as caught:
        counts.perform([], check=True, write=False)

    assert restarts == []
    message = str(caught.value)
    assert message.startswith("Not judged: ")
    assert f"{name} is {here[name]} and the budget's other" in message
    assert f"h2 is {here['h2']} and the budget's 4.0.1" in message
    assert "make bench ARGS=--write-budget" in message


def test_environment_that_has_other_versions_is_not_made_again(
    restarts: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNTS_VENV", sys.prefix)
    write_budget(h2="4.0.1")

    with pytest.raises(BenchmarkError, match="Not judged: h2 is"):
        counts.perform([], check=True, write=False)

    assert restarts == []


def test_versions_that_cannot_be_installed_are_told(
    restarts: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ensure(target: Path, requirements: list[str]) -> Path:
        sys.exit("Could not be installed: h2==4.0.1")

    monkeypatch.setattr(environment, "ensure", ensure)
    write_budget(h2="4.0.1")

    with pytest.raises(BenchmarkError, match=r"h2==4\.0\.1\nNot judged: h2 is"):
        counts.perform([], check=True, write=False)


@pytest.mark.e2e
def test_check_that_is_not_judged_fails(tmp_path: Path) -> None:
    copy = tmp_path / "budget.json"
    replace(BUDGET, versions=counts.versions() | {"python": "2.7"}).write(copy)
    script = (
        "import sys; from pathlib import Path; from benchmarks import cli, counts;"
        f" counts.BUDGET = Path({str(copy)!r}); sys.exit(cli.main(['--check-budget']))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stderr.startswith("Not judged: python is ")


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


@pytest.mark.e2e
def test_what_a_command_has_forked_ends_with_it() -> None:
    script = "sleep 600 >/dev/null 2>&1 & echo $!"
    output, _ = counts._run(["sh", "-c", script], {"PATH": os.environ["PATH"]})

    asyncio.run(wait_until(lambda: has_ended(int(output))))


def has_ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2]
    except OSError:
        return True
    return state.startswith("Z")
