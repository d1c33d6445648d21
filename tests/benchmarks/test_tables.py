"""From measurements to ratios, verdicts and Markdown, and back from JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cli import RESULTS
from benchmarks.goals import judge
from benchmarks.model import Cell, Results, Row, Sample
from benchmarks.tables import (
    AHEAD_BLOCK,
    BREAKDOWN_BLOCK,
    GOALS_BLOCK,
    RESULTS_BLOCK,
    marks,
    published_run,
    render,
    render_goals,
    render_verdicts,
    rewrite_block,
    run_of,
)


def make_results(**rows: Row) -> Results:
    machine = {
        "date": "2026-01-01",
        "processor": "some",
        "cores": "2",
        "system": "Linux",
        "python": "CPython 3.12",
        "load": "0.1",
    }
    options = {"profile": "quick", "rounds": 2, "seconds": 1, "transfers": "8 MiB"}
    return Results(machine, {"djserve": "1.0"}, options, [*rows.values()])


def make_row(name: str, unit: str = "requests/s", **values: list[float]) -> Row:
    cells = {server: Cell(values=figures) for server, figures in values.items()}
    return Row(name=name, title="Some work", group="Some", unit=unit, cells=cells)


def parse_table(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_table_has_a_column_for_each_server_and_the_ratio() -> None:
    row = make_row("work", djserve=[300, 310, 305], uvicorn=[200], granian=[100])
    head, rule, line = parse_table(render(make_results(row=row)))

    assert head == ["", "unit", "djserve", "Uvicorn", "Granian", "vs four"]
    assert rule == ["---", "---", "---:", "---:", "---:", "---:"]
    assert line[2:] == ["305 ±2", "200", "100", "1.52"]


def test_less_is_better_turns_the_ratio_round() -> None:
    row = make_row("work", unit="ms", djserve=[50], daphne=[100], granian=[75])
    row.less_is_better = True

    assert row.best() == ("granian", 75)
    assert row.ratio() == 1.5


def test_server_that_failed_has_no_figure_but_a_reason() -> None:
    row = make_row("work", djserve=[1], daphne=[])
    row.cells["daphne"].fail("it ended")
    text = render(make_results(row=row))

    assert parse_table(text)[2][3] == "-"
    assert "- Daphne, `work`: failed 1 x: it ended" in text


def test_cpu_time_is_shown_where_it_was_measured() -> None:
    row = make_row("work", djserve=[], uvicorn=[])
    row.cells["djserve"].add(Sample(50_000, busy=1.0))
    row.cells["uvicorn"].add(Sample(25_000, busy=0.5))
    lines = parse_table(render(make_results(row=row)))

    assert lines[2][2:] == ["50,000", "25,000°", "2.00"]
    assert lines[3][1:] == ["µs/request", "20", "20", "1.00"]


def test_cpu_time_of_what_is_no_rate_tells_nothing() -> None:
    row = make_row("work", unit="ms", djserve=[], uvicorn=[])
    for cell in row.cells.values():
        cell.add(Sample(50, busy=1.0))

    assert len(parse_table(render(make_results(row=row)))) == 3
    assert row.cost_ratio() is None


@pytest.mark.parametrize(("ours", "is_met"), [(130, True), (129, False)])
def test_goal_is_met_at_its_ratio(ours: float, is_met: bool) -> None:
    row = make_row("http1_hello", djserve=[ours], granian=[100], uvicorn=[90])

    assert [verdict.is_met for verdict in judge(make_results(row=row))] == [is_met]


@pytest.mark.parametrize("name", ["http1_new", "http2_hello"])
@pytest.mark.parametrize(("ours", "is_met"), [(80, True), (79, False)])
def test_goal_is_four_fifths_of_granian(name: str, ours: float, is_met: bool) -> None:
    row = make_row(name, djserve=[ours], granian=[100])

    assert [verdict.is_met for verdict in judge(make_results(row=row))] == [is_met]


def test_published_goals_are_those_of_today() -> None:
    """``--report benchmarks/results/results.json --publish`` writes them again."""
    published = (RESULTS / "results.md").read_text("utf-8")

    assert render_goals(Results.read(RESULTS / "results.json")) in published


@pytest.mark.parametrize(("growth", "is_met"), [(16, True), (16.5, False)])
def test_limit_is_met_up_to_its_size(growth: float, is_met: bool) -> None:
    row = make_row("memory_upload", unit="MiB", djserve=[growth])

    assert [verdict.is_met for verdict in judge(make_results(row=row))] == [is_met]


@pytest.mark.parametrize("failed", ["djserve", "granian"])
def test_goal_whose_measurement_failed_is_not_met(failed: str) -> None:
    row = make_row("http1_hello", djserve=[130], granian=[1])
    row.cells[failed].values = []

    [verdict] = judge(make_results(row=row))
    assert (verdict.measured, verdict.is_met) == ("no figure", False)


def test_goal_of_which_nobody_was_measured_has_no_verdict() -> None:
    rows = {
        "one": make_row("http1_hello", djserve=[130]),
        "other": make_row("memory_upload", granian=[1]),
    }

    assert judge(make_results(**rows)) == []


def make_idle(costs: list[float]) -> list[Row]:
    """Return the rows of idle connections, with these microseconds for a request."""
    rows = []
    for count, cost in zip((1, 1000, 10_000), costs, strict=True):
        row = make_row(f"http1_idle_{count}", djserve=[])
        row.cells["djserve"].add(Sample(1e6 / cost, busy=1.0))
        rows.append(row)
    return rows


@pytest.mark.parametrize(
    ("costs", "answer"),
    [([20, 20.2, 20.4], "no (+2 %"), ([20, 22, 25], "yes (+25 %")],
    ids=["within the noise", "grows"],
)
def test_cost_beside_idle_connections_is_said_to_grow(
    costs: list[float], answer: str
) -> None:
    rows = make_idle(costs)
    text = render_verdicts(make_results(**{row.name: row for row in rows}))
    head, _, line = parse_table(text)

    assert head[1:] == ["beside 1", "beside 1,000", "beside 10,000", "grows"]
    assert line[:4] == ["djserve", *(f"{cost:.3g}" for cost in costs)]
    assert line[4].startswith(answer)


def test_goal_that_is_missed_leads_to_its_explanation() -> None:
    row = make_row("http1_hello", djserve=[129], granian=[100])

    assert parse_table(render_verdicts(make_results(row=row)))[2][-1].startswith("[no]")


def test_page_tells_which_run_it_has() -> None:
    results = make_results()
    results.versions["granian"] = "2.0"
    begin, end = marks("some")
    page = f"{begin}\n\n{render(results)}{end}"

    assert run_of(results) == "djserve 1.0, 2026-01-01"
    assert published_run(page, "some") == run_of(results)
    assert published_run(page, "other") == ""


def test_results_survive_json(tmp_path: Path) -> None:
    results = make_results(row=make_row("work", djserve=[1.5, 2]))
    results.write(tmp_path / "results.json")

    assert Results.read(tmp_path / "results.json") == results


def test_block_of_a_page_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin, end = marks("some")
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    rewrite_block(page, "some", r"new \1")

    assert page.read_text() == f"before\n{begin}\n\nnew \\1\n{end}\nafter\n"


def test_page_without_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n")

    with pytest.raises(ValueError, match="0 blocks 'some'"):
        rewrite_block(page, "some", "new")


@pytest.mark.parametrize(
    "name", [GOALS_BLOCK, RESULTS_BLOCK, AHEAD_BLOCK, BREAKDOWN_BLOCK]
)
def test_page_of_the_documentation_has_its_blocks(tmp_path: Path, name: str) -> None:
    page = tmp_path / "performance.md"
    page.write_text(Path("docs/explanation/performance.md").read_text("utf-8"), "utf-8")
    begin, end = marks(name)
    rewrite_block(page, name, "new")

    assert f"{begin}\n\nnew\n{end}" in page.read_text("utf-8")
