"""In which rows of a run another server has the better figure, and why.

Every server counts here that was measured, not only the four that the goals name. The
reasons are written by hand, in ``reasons.py``.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.model import Results, Row, format_number
from benchmarks.reasons import REASONS
from benchmarks.rounds import BOUNDS

OURS = "djserve"


@dataclass(frozen=True, slots=True)
class Comparison:
    """djserve beside the best of the others, in one figure of a row."""

    peer: str
    ratio: float | None
    """How much better djserve is; None where either has no figure, or nothing."""
    is_behind: bool
    is_noise: bool
    """Whether the rounds of both overlap."""


@dataclass(frozen=True, slots=True)
class Lead:
    """A row in which a peer is ahead: by its figure, by CPU time, or by both."""

    row: Row
    figure: Comparison
    cost: Comparison | None
    """None where CPU time tells nothing."""

    @property
    def is_noise(self) -> bool:
        """Whether no figure that is behind is so beyond the noise."""
        both = (self.figure, self.cost)
        return all(one.is_noise for one in both if one and one.is_behind)

    @property
    def reason(self) -> str:
        """What has been found out; empty if nothing has."""
        return REASONS.get(self.row.name, "")


def find_leads(results: Results) -> list[Lead]:
    """Return the rows of a run in which a peer is ahead, in their order."""
    leads = (_lead_of(row) for row in results.rows)
    return [lead for lead in leads if lead]


def unexplained(results: Results) -> list[str]:
    """Return the scenarios with a lead beyond the noise that has no reason yet."""
    return [
        lead.row.name
        for lead in find_leads(results)
        if not lead.reason and not lead.is_noise
    ]


def _lead_of(row: Row) -> Lead | None:
    if OURS not in row.cells:
        return None
    cells = {name: cell for name, cell in row.cells.items() if name not in BOUNDS}
    figure = compare(
        {name: cell.values for name, cell in cells.items()},
        less_is_better=row.less_is_better,
    )
    cost = None
    if row.is_rate:
        costs = {name: cell.costs for name, cell in cells.items()}
        cost = compare(costs, less_is_better=True)
    if figure is None or not (figure.is_behind or (cost and cost.is_behind)):
        return None
    return Lead(row, figure, cost)


def compare(
    rounds: Mapping[str, Sequence[float]], *, less_is_better: bool
) -> Comparison | None:
    """Compare djserve's rounds with those of the best peer; None without a peer's."""
    medians = {name: statistics.median(each) for name, each in rounds.items() if each}
    ours = medians.pop(OURS, None)
    if not medians:
        return None
    choose = min if less_is_better else max
    peer = choose(medians, key=medians.__getitem__)
    theirs = medians[peer]
    if ours is None:
        return Comparison(peer, None, is_behind=True, is_noise=False)
    better, worse = (theirs, ours) if less_is_better else (ours, theirs)
    return Comparison(
        peer,
        ratio=better / worse if better > 0 and worse > 0 else None,
        # Not by less than the tables show: no bytes beside none.
        is_behind=better < worse and format_number(better) != format_number(worse),
        is_noise=overlap(rounds[OURS], rounds[peer]),
    )


def overlap(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Return whether the rounds of two do; a single one of each says nothing."""
    if len(ours) == len(theirs) == 1:
        return False
    return min(ours) <= max(theirs) and min(theirs) <= max(ours)
