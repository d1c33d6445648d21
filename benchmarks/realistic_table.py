"""The table of the README: a project as many have it, under each server.

``python -m benchmarks realistic_ --publish`` puts the figures of a run into the page on
performance, and from there the rates and the CPU time into the README.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.database_measures import VIEWS
from benchmarks.model import Results
from benchmarks.tables import join, render_group, render_machine, rewrite_block

GROUP = "Realistic project"
BLOCK = "realistic table"
ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "explanation" / "performance.md"
README = ROOT / "README.md"


def publish(results: Results) -> None:
    """Put the group's figures into both pages, if the run has all of them."""
    rows = [row for row in results.rows if row.group == GROUP]
    if not {f"realistic_{name}" for name in VIEWS} <= {row.name for row in rows}:
        return
    rewrite_block(
        PAGE, BLOCK, join([render_machine(results), render_group(GROUP, rows)])
    )
    rewrite_block(README, BLOCK, summarize(PAGE.read_text("utf-8")))


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
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table) + "\n"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _figure(rate: str, cost: str) -> str:
    found = re.match(r"[\d.,]+", rate)
    if found is None or cost == "-":
        return "-"
    return f"{found[0]} ({float(cost.replace(',', '')) / 1000:.1f} ms)"
