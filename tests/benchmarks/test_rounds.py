"""Who is measured again: those of whom another round may say something new."""

from __future__ import annotations

import pytest

from benchmarks.model import Cell, Row
from benchmarks.rounds import expected_count, wants_another
from benchmarks.servers import RAW_ECHO


def make_row(figures: dict[str, list[float]], *, less_is_better: bool = False) -> Row:
    cells = {name: Cell(values=values) for name, values in figures.items()}
    return Row("race", "Race", "HTTP/1.1", "", less_is_better, cells)


def wanted(row: Row) -> set[str]:
    return {name for name in row.cells if wants_another(row, name)}


def test_peer_far_behind_the_leader_is_measured_once() -> None:
    row = make_row(
        {"djserve": [100], "uvicorn": [99], "daphne": [49], "gunicorn": [51]}
    )

    assert wanted(row) == {"djserve", "uvicorn", "gunicorn"}


def test_less_may_be_better() -> None:
    figures = {"djserve": [100.0], "uvicorn": [101.0], "daphne": [199.0]}

    assert wanted(make_row(figures, less_is_better=True)) == {*figures}
    figures["daphne"] = [203.0]
    assert wanted(make_row(figures, less_is_better=True)) == {"djserve", "uvicorn"}


def test_djserve_and_the_best_of_the_four_are_measured_again() -> None:
    row = make_row({"djserve": [1], "uvicorn": [10], "daphne": [9], "gunicorn": [100]})

    assert wanted(row) == {"djserve", "uvicorn", "gunicorn"}


def test_bound_is_no_leader_and_is_never_behind() -> None:
    row = make_row({"djserve": [100], "uvicorn": [60], RAW_ECHO: [1000]})
    assert wanted(row) == {"djserve", "uvicorn", RAW_ECHO}

    row = make_row({"djserve": [100], "uvicorn": [60], RAW_ECHO: [1]})
    assert wanted(row) == {"djserve", "uvicorn", RAW_ECHO}


@pytest.mark.parametrize(
    ("values", "wants"),
    [
        pytest.param([100, 108], False, id="alike"),
        pytest.param([100, 120], True, id="apart"),
        pytest.param([100, 120, 110], True, id="three apart"),
    ],
)
def test_two_rounds_that_are_alike_are_enough(values: list[float], wants: bool) -> None:
    row = make_row({"djserve": values, "uvicorn": [100, 120]})

    assert wants_another(row, "djserve") is wants


def test_failed_measurement_is_made_again() -> None:
    assert wanted(make_row({"djserve": [], "uvicorn": [100]})) == {"djserve", "uvicorn"}


def test_no_figure_above_zero_puts_nobody_behind() -> None:
    row = make_row({"djserve": [0.0], "uvicorn": [-1.0]})

    assert wanted(row) == {"djserve", "uvicorn"}


def test_expected_count_is_all_contenders_in_each_round_of_a_whole_scenario() -> None:
    assert expected_count(6, 3, is_whole=True) == 18
    assert expected_count(6, 1, is_whole=False) == 6
    assert 6 < expected_count(6, 3, is_whole=False) < 18
