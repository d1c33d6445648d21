"""The README has the figures of the page on performance, and both those of one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import realistic_table
from benchmarks.database_measures import VIEWS
from benchmarks.model import Cell, Results, Row, Sample
from benchmarks.realistic_table import (
    BLOCK,
    GROUP,
    PAGE,
    README,
    publish,
    summarize,
)
from benchmarks.tables import marks


def test_readme_has_the_published_figures() -> None:
    begin, end = marks(BLOCK)
    table = summarize(PAGE.read_text("utf-8"))

    assert f"{begin}\n\n{table}\n{end}" in README.read_text("utf-8")
    assert [line.split(" |")[0][2:] for line in table.splitlines()[2:6]] == [
        view.title for view in VIEWS.values()
    ]


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    begin, end = marks(BLOCK)
    page, readme = tmp_path / "page.md", tmp_path / "README.md"
    for path in (page, readme):
        path.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    monkeypatch.setattr(realistic_table, "PAGE", page)
    monkeypatch.setattr(realistic_table, "README", readme)
    return page, readme


def make_results(names: list[str]) -> Results:
    results = Results(
        machine=dict.fromkeys(
            ("date", "processor", "cores", "system", "python", "load"), "x"
        ),
        versions={},
        options=dict.fromkeys(("profile", "rounds", "seconds", "transfers"), "x"),
    )
    for name in names:
        row = Row(
            name=f"realistic_{name}",
            title=VIEWS[name].title,
            group=GROUP,
            unit="requests/s",
            cells={"djserve": Cell(), "daphne": Cell()},
        )
        row.cells["djserve"].add(Sample(1250, 1.0))
        row.cells["daphne"].add(Sample(100, 1.0))
        results.rows.append(row)
    return results


def test_figures_of_a_run_go_into_both_pages(pages: tuple[Path, Path]) -> None:
    publish(make_results([*VIEWS]))

    page, readme = (path.read_text("utf-8") for path in pages)
    assert "(`realistic_page`) | requests/s | 1,250 | 100 |" in page
    assert "| requests/s (CPU time of each) | djserve | Daphne |" in readme
    assert f"| {VIEWS['page'].title} | 1,250 (0.8 ms) | 100 (10.0 ms) |" in readme
    assert "old" not in page + readme


def test_page_compares_by_what_was_measured(pages: tuple[Path, Path]) -> None:
    results = make_results([*VIEWS])
    for rate, row in zip((50, 100, 125, 200), results.rows, strict=True):
        row.cells["gunicorn gthread"] = Cell()
        row.cells["gunicorn gthread"].add(Sample(1000, 1.0))
        row.cells["daphne"] = Cell()
        row.cells["daphne"].add(Sample(rate, 0.5))

    publish(results)

    assert (
        "djserve is 6.25 to 25.00 times as good as the best of the four, 3.12 to 12.50"
        " times as good as the best of the four by CPU time, 1.25 to 1.25 times as good"
        " as the threads of gunicorn."
    ) in pages[0].read_text("utf-8")


def test_published_comparison_is_that_of_its_table() -> None:
    begin, end = marks(BLOCK)
    block = PAGE.read_text("utf-8").partition(begin)[2].partition(end)[0]
    rows = [line.strip("| ").split(" | ") for line in block.splitlines()]
    rates = [float(row[-1]) for row in rows if row[1:2] == ["requests/s"]]
    costs = [float(row[-1]) for row in rows if row[1:2] == ["µs/request"]]

    assert (
        f"djserve is {min(rates):.2f} to {max(rates):.2f} times as good as the best of"
        f" the four, {min(costs):.2f} to {max(costs):.2f} times as good as the best of"
        " the four by CPU time, "
    ) in block
