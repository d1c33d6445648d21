"""How a run knows that it will take too long, and what it leaves out then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import runner
from benchmarks.measures import Conditions
from benchmarks.model import Results, Row, Sample
from benchmarks.runner import Progress, run_scenarios
from benchmarks.scenarios import BY_NAME, Scenario

CONDITIONS = Conditions(
    seconds=1,
    server_core=0,
    load_core=0,
    folder=Path("."),
    certificate=Path("-"),
    key=Path("-"),
)


class Clock:
    """A monotonic clock that each measurement moves on by what it takes."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(runner, "time", clock)
    return clock


def make_scenario(name: str, overhead: float, takes: float, clock: Clock) -> Scenario:
    def measure(contender: str, conditions: Conditions) -> Sample:
        clock.now += takes
        return Sample(1.0)

    scenario = BY_NAME["http1_hello"]
    return replace(
        scenario,
        name=name,
        measure=measure,
        loads=0,
        overhead=overhead,
        contenders=("a",),
    )


def run(scenarios: list[Scenario], minutes: float) -> list[Row]:
    results = Results({}, {}, {})
    rows = run_scenarios(
        scenarios, (), lambda each: 3, CONDITIONS, results, lambda line: None, minutes
    )
    return [*rows]


def rounds_in(rows: list[Row]) -> list[int]:
    return [len(row.cells["a"].values) for row in rows]


def test_long_measurements_at_the_beginning_are_no_delay(clock: Clock) -> None:
    scenarios = [make_scenario("long", 100, 100, clock)]
    scenarios += [make_scenario(f"short{n}", 1, 1, clock) for n in range(5)]

    assert rounds_in(run(scenarios, minutes=6)) == [3] * 6


def test_slow_machine_makes_one_round_of_what_is_left(clock: Clock) -> None:
    scenarios = [make_scenario(f"work{n}", 10, 30, clock) for n in range(4)]

    assert rounds_in(run(scenarios, minutes=2)) == [3, 1, 1, 1]


def test_line_says_how_long_the_rest_takes(clock: Clock) -> None:
    lines: list[str] = []
    progress = Progress(3, 300.0, lines.append)
    clock.now += 120
    progress.note(runner.new_row(BY_NAME["start"], []), "a", "1 ms", 100.0)

    assert lines == [
        "[   1/3,  4.0 min left] start                a                1 ms"
    ]
