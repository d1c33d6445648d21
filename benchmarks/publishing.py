"""What of a run goes into the documentation: parts that the run has all of.

A part of a part is never published: a table would miss rows, or have those of two runs.
A part that is published alone says so where the results beside it are of another run.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from benchmarks import difference, realistic_table
from benchmarks.goals import goal_scenarios
from benchmarks.model import Results
from benchmarks.profiles import NORMAL, QUICK
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.tables import (
    AHEAD_BLOCK,
    GOALS_BLOCK,
    NONE_AHEAD,
    RESULTS_BLOCK,
    join,
    published_run,
    render_ahead,
    render_figures,
    render_problems,
    render_verdicts,
    rewrite_block,
    run_of,
)

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "explanation" / "performance.md"
IMAGES = ROOT / "docs" / "images"

ALL, GOALS, REALISTIC = "all results", "the goals", "the realistic project"


def parts_of(results: Results) -> list[str]:
    """Return which parts of the documentation a run has all rows and servers of."""
    profile = results.options["profile"]
    if profile == QUICK.name:
        return []
    if profile == NORMAL.name and _has(results, SCENARIOS):
        return [ALL, GOALS, REALISTIC]
    parts = {GOALS: goal_scenarios(), REALISTIC: realistic_table.scenarios()}
    return [part for part, scenarios in parts.items() if _has(results, scenarios)]


def _has(results: Results, scenarios: Iterable[Scenario]) -> bool:
    measured = {row.name: row.cells.keys() for row in results.rows}
    return all(
        measured.get(each.name, set()) >= {*each.contenders} for each in scenarios
    )


def publish(results: Results, pictures: list[Path]) -> list[str]:
    """Put the parts that a run has into the documentation; return them."""
    parts = parts_of(results)
    # First: the others tell whether these are of the same run.
    if ALL in parts:
        rewrite_block(PAGE, RESULTS_BLOCK, render_figures(results))
        rewrite_block(PAGE, AHEAD_BLOCK, render_ahead(results) or NONE_AHEAD)
        IMAGES.mkdir(exist_ok=True)
        for picture in pictures:
            shutil.copy(picture, IMAGES)
    if GOALS in parts:
        # The results below have all that went wrong.
        problems = "" if ALL in parts else render_problems(results)
        text = [render_verdicts(results), problems, other_results(results)]
        rewrite_block(PAGE, GOALS_BLOCK, join(text))
        difference.main()
    if REALISTIC in parts:
        realistic_table.publish(results, other_results(results))
    return parts


def other_results(results: Results) -> str:
    """Return a sentence if the page's results are not of this djserve, else nothing."""
    ours = run_of(results)
    theirs = published_run(PAGE.read_text("utf-8"), RESULTS_BLOCK)
    return "" if ours == theirs else f"The results of all scenarios are of {theirs}."
