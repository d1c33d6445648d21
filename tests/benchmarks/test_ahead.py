"""Which rows a peer leads, beyond the noise or not, and that each has its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import ahead
from benchmarks.ahead import compare, find_leads, unexplained
from benchmarks.model import Cell, Results, Row
from benchmarks.reasons import REASONS
from benchmarks.scenarios import BY_NAME
from benchmarks.servers import RAW_ECHO, WSGI_IN_PROCESS
from benchmarks.tables import UNEXPLAINED, render, render_ahead

PUBLISHED = Path("benchmarks/results/results.json")


@pytest.fixture(autouse=True)
def reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "REASONS", {"explained": "Because."})


def make_row(name: str, unit: str = "requests/s", **values: list[float]) -> Row:
    cells = {server: Cell(values=figures) for server, figures in values.items()}
    return Row(name=name, title="Work", group="Some", unit=unit, cells=cells)


def make_results(*rows: Row) -> Results:
    machine = dict.fromkeys(
        ("date", "processor", "cores", "system", "python", "load"), "x"
    )
    options = dict.fromkeys(("profile", "rounds", "seconds", "transfers"), "x")
    return Results(machine, {}, options, [*rows])


def cells_of(text: str) -> list[list[str]]:
    """Return the lines of the table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_peer_that_is_ahead_is_shown_with_the_reason() -> None:
    row = make_row("explained", djserve=[100, 104], gunicorn=[200], uvicorn=[150])

    assert cells_of(render_ahead(make_results(row))) == [
        [
            "Some: Work (`explained`), requests/s",
            "102 ±2",
            "gunicorn 200",
            "0.51",
            "-",
            "Because.",
        ]
    ]


def test_row_in_which_djserve_is_as_good_is_left_out() -> None:
    rows = make_row("a", djserve=[100], uvicorn=[100]), make_row("b", djserve=[1])

    assert find_leads(make_results(*rows)) == []
    assert "ahead" not in render(make_results(*rows))


def test_less_may_be_better() -> None:
    row = make_row("work", "ms", djserve=[100], granian=[50])
    row.less_is_better = True
    [lead] = find_leads(make_results(row))

    assert (lead.figure.peer, lead.figure.ratio, lead.cost) == ("granian", 0.5, None)


@pytest.mark.parametrize("bound", [RAW_ECHO, WSGI_IN_PROCESS])
def test_bound_is_no_peer(bound: str) -> None:
    row = make_row("work", djserve=[100])
    row.cells[bound] = Cell(values=[200])

    assert find_leads(make_results(row)) == []


def test_peer_may_be_ahead_by_cpu_time_alone() -> None:
    row = make_row("work", djserve=[100], uvicorn=[90], granian=[50])
    for name, busy in (("djserve", 1.0), ("uvicorn", 0.95), ("granian", 0.2)):
        row.cells[name].busy = [busy]
    [line] = cells_of(render_ahead(make_results(row)))

    assert line[2:5] == ["Uvicorn 90", "1.11", "0.40 (Granian)"]


def test_cpu_time_of_what_is_no_rate_is_not_compared() -> None:
    row = make_row("work", "ms", djserve=[50], granian=[100])
    row.less_is_better = True
    row.cells["djserve"].busy, row.cells["granian"].busy = [1.0], [0.1]

    assert find_leads(make_results(row)) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "is_noise"),
    [
        pytest.param([90.0, 110], [105.0, 120], True, id="overlap"),
        pytest.param([90.0, 110], [111.0, 120], False, id="apart"),
        pytest.param([90.0, 110], [108.0], True, id="within"),
        pytest.param([100.0], [101.0], False, id="one round of each"),
    ],
)
def test_rounds_that_overlap_are_noise(
    ours: list[float], theirs: list[float], is_noise: bool
) -> None:
    results = make_results(make_row("work", djserve=ours, granian=theirs))
    [line] = cells_of(render_ahead(results))

    assert line[3].endswith(", noise") is is_noise
    assert line[-1] == ("The rounds overlap." if is_noise else UNEXPLAINED)
    assert unexplained(results) == ([] if is_noise else ["work"])


def test_server_without_a_figure_is_behind() -> None:
    comparison = compare({"djserve": [], "granian": [1.0]}, less_is_better=False)

    assert comparison is not None
    assert (comparison.is_behind, comparison.ratio) == (True, None)


@pytest.mark.parametrize(
    ("ours", "theirs", "is_behind"),
    [(0.004, 0.001, False), (0.016, 0.001, True), (1234.4, 1233.6, False)],
)
def test_figures_that_look_the_same_are(
    ours: float, theirs: float, is_behind: bool
) -> None:
    comparison = compare({"djserve": [ours], "granian": [theirs]}, less_is_better=True)

    assert comparison is not None
    assert comparison.is_behind is is_behind


def test_nothing_at_all_has_no_ratio() -> None:
    comparison = compare({"djserve": [0.5], "granian": [0.0]}, less_is_better=True)

    assert comparison is not None
    assert (comparison.is_behind, comparison.ratio) == (True, None)


def test_each_reason_is_of_a_scenario_and_fits_a_cell() -> None:
    assert REASONS.keys() <= BY_NAME.keys()
    assert all(
        "|" not in text and "\n" not in text and text.endswith(".")
        for text in REASONS.values()
    )


def test_published_results_have_all_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "REASONS", REASONS)

    assert unexplained(Results.read(PUBLISHED)) == []
