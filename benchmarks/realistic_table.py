"""The table of the README: a project as many have it, under each server.

``python -m benchmarks realistic_ --publish`` puts the figures of a run into the page on
performance, and from there the rates and the CPU time into the README.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.database_measures import VIEWS
from benchmarks.model import Results, Row
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.tables import (
    GOALS_BLOCK,
    join,
    published_run,
    render_group,
    render_machine,
    rewrite_block,
)

GROUP = "Realistic project"
BLOCK = "realistic table"
ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "explanation" / "performance.md"
README = ROOT / "README.md"


def scenarios() -> list[Scenario]:
    return [scenario for scenario in SCENARIOS if scenario.group == GROUP]


def publish(results: Results, note: str = "") -> None:
    """Put the group's figures into both pages, with a note in the first."""
    rows = [row for row in results.rows if row.group == GROUP]
    table = render_group(GROUP, rows)
    text = join([render_machine(results), table, compare(rows), note])
    rewrite_block(PAGE, BLOCK, text)
    rewrite_block(README, BLOCK, summarize(PAGE.read_text("utf-8")))


def compare(rows: list[Row]) -> str:
    """Say how many times better djserve is: from the least to the most of the views."""
    rates = [row for row in rows if row.is_rate]
    ratios = {
        "best of the four": [row.ratio() for row in rates],
        "best of the four by CPU time": [row.cost_ratio() for row in rates],
        "threads of gunicorn": [row.ratio(("gunicorn gthread",)) for row in rates],
    }
    told = [
        f"{min(found):.2f} to {max(found):.2f} times as good as the {others}"
        for others, each in ratios.items()
        if (found := [ratio for ratio in each if ratio is not None])
    ]
    return f"djserve is {', '.join(told)}." if told else ""


def summarize(page: str) -> str:
    """Return the README's table, from the figures in the page on performance."""
    start = page.index(f"<!-- {BLOCK}: begin")
    lines = page[start : page.index(f"<!-- {BLOCK}: end")].splitlines()
    rows = [_cells(line) for line in lines if line.startswith("|")]
    last = -1 if rows[0][-1] == "vs four" else None
    table = [
        ["requests/s (CPU time of each)", *rows[0][2:last]],
        ["---", *["---:"] * len(rows[0][2:last])],
    ]
    for name, view in VIEWS.items():
        rates, costs = (
            next(row for row in rows if row[0] == title)[2:last]
            for title in (
                f"{view.title} (`realistic_{name}`)",
                f"server CPU (`realistic_{name}`)",
            )
        )
        table.append([view.title, *map(_figure, rates, costs)])
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in table)
    return join([text, _origin(page)])


def _origin(page: str) -> str:
    """Say of which runs the README's figures are: its picture is of the goals."""
    table, picture = published_run(page, BLOCK), published_run(page, GOALS_BLOCK)
    if not table:
        return ""
    if picture in ("", table):
        return f"Measured with {table}."
    return f"Measured with {table}; the picture: {picture}."


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _figure(rate: str, cost: str) -> str:
    found = re.match(r"[\d.,]+", rate)
    if found is None or cost == "-":
        return "-"
    return f"{found[0]} ({float(cost.replace(',', '')) / 1000:.1f} ms)"
