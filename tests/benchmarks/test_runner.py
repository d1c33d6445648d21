"""How a run knows that it will take too long, and what it leaves out then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import runner
from benchmarks.measures import Conditions
from benchmarks.model import Results, Row, Sample
from benchmarks.runner import Progress, estimate, run_scenarios
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
        is_whole=True,
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


def make_race(figures: dict[str, list[float]]) -> Scenario:
    """Return a scenario in which each contender has these figures, one a round."""
    left = {name: [*values] for name, values in figures.items()}

    def measure(contender: str, conditions: Conditions) -> Sample:
        return Sample(left[contender].pop(0))

    scenario = BY_NAME["http1_hello"]
    return replace(scenario, measure=measure, contenders=tuple(figures))


RACE = {
    "djserve": [100.0, 200.0, 150.0],
    "uvicorn": [80.0, 81.0, 82.0],
    "daphne": [20.0, 21.0, 22.0],
}


def test_rounds_are_made_for_those_whose_figures_are_open() -> None:
    [row] = run([make_race(RACE)], minutes=100)

    assert {name: len(cell.values) for name, cell in row.cells.items()} == {
        "djserve": 3,
        "uvicorn": 2,
        "daphne": 1,
    }


def test_whole_scenario_measures_all_in_each_round() -> None:
    [row] = run([replace(make_race(RACE), is_whole=True)], minutes=100)

    assert {len(cell.values) for cell in row.cells.values()} == {3}


def test_rounds_that_are_spared_count_as_done() -> None:
    lines: list[str] = []
    races = [make_race(RACE), make_race(RACE)]
    rows = run_scenarios(
        races, (), lambda each: 3, CONDITIONS, Results({}, {}, {}), lines.append
    )

    measured = sum(len(cell.values) for row in rows for cell in row.cells.values())
    assert measured == len(lines) == 12
    # Six measurements are expected of each.
    assert estimate(races, (), lambda each: 3, seconds=1)[0] == 12
    assert lines[-1].startswith("[  12/12, ")


def test_line_says_how_long_the_rest_takes(clock: Clock) -> None:
    lines: list[str] = []
    progress = Progress(3, 300.0, lines.append)
    clock.now += 120
    progress.note(runner.new_row(BY_NAME["start"], []), "a", "1 ms", 100.0)

    assert lines == [
        "[   1/3,  4.0 min left] start                a                1 ms"
    ]
