"""What a run measures: cells of one server in one scenario, kept as JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

THE_FOUR = ("daphne", "uvicorn", "hypercorn", "granian")
"""The servers that the goals compare with."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement; ``busy`` is the share of its core that the server used."""

    value: float
    busy: float | None = None


@dataclass(slots=True)
class Cell:
    """The rounds of one server in one scenario, or why there are none."""

    values: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    problem: str = ""
    failures: int = 0

    def add(self, sample: Sample) -> None:
        self.values.append(sample.value)
        if sample.busy is not None:
            self.busy.append(sample.busy)

    def fail(self, problem: str) -> None:
        self.problem = problem
        self.failures += 1

    @property
    def is_hopeless(self) -> bool:
        """Whether more rounds would fail too; once may be the machine's fault."""
        return self.failures > 1

    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None

    @property
    def spread(self) -> float:
        """Half the distance from the least to the greatest, as a part of the median."""
        if len(self.values) < 2 or not self.median:
            return 0.0
        return (max(self.values) - min(self.values)) / 2 / abs(self.median)

    @property
    def costs(self) -> list[float]:
        """Microseconds of the server's CPU for one of what is counted, by round.

        Other work on the machine takes time from a server, but puts little on this.
        """
        if len(self.busy) != len(self.values):
            return []
        pairs = zip(self.busy, self.values, strict=True)
        return [busy / value * 1e6 for busy, value in pairs]

    @property
    def cost(self) -> float | None:
        """The median of ``costs``."""
        return statistics.median(self.costs) if self.costs else None

    @property
    def is_idle(self) -> bool:
        """Whether something other than the server's core set the pace."""
        return bool(self.busy) and statistics.median(self.busy) < 0.85


@dataclass(slots=True)
class Row:
    """One scenario's cells, by the name of the contender."""

    name: str
    title: str
    group: str
    unit: str
    less_is_better: bool = False
    cells: dict[str, Cell] = field(default_factory=dict)

    @property
    def is_rate(self) -> bool:
        """Whether it counts work done, each of which takes so much CPU time."""
        return self.unit.endswith("/s")

    def median(self, contender: str) -> float | None:
        cell = self.cells.get(contender)
        return cell.median if cell else None

    def best(self, contenders: tuple[str, ...] = THE_FOUR) -> tuple[str, float] | None:
        """Return the contender that did best among these, and its median."""
        found = [
            (name, median)
            for name in contenders
            if (median := self.median(name)) is not None
        ]
        if not found:
            return None
        choose = min if self.less_is_better else max
        return choose(found, key=lambda pair: pair[1])

    def ratio(self, contenders: tuple[str, ...] = THE_FOUR) -> float | None:
        """Return how much better djserve is than the best of these: above 1 is."""
        ours, best = self.median("djserve"), self.best(contenders)
        if ours is None or best is None or ours <= 0 or best[1] <= 0:
            return None
        return best[1] / ours if self.less_is_better else ours / best[1]

    def cost_ratio(self) -> float | None:
        """Return ``ratio`` in terms of the server's CPU time."""
        if not self.is_rate:
            return None
        costs = {name: cell.cost for name, cell in self.cells.items()}
        ours = costs.get("djserve")
        others = [cost for name in THE_FOUR if (cost := costs.get(name))]
        return min(others) / ours if ours and others else None


@dataclass(slots=True)
class Results:
    """A whole run: the machine, the versions, the options, the rows."""

    machine: dict[str, str]
    versions: dict[str, str]
    options: dict[str, Any]
    rows: list[Row] = field(default_factory=list)

    def row(self, name: str) -> Row | None:
        return next((row for row in self.rows if row.name == name), None)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, path: Path) -> Results:
        data = json.loads(path.read_text("utf-8"))
        rows = [_row_from(row) for row in data.pop("rows")]
        return cls(**data, rows=rows)


def format_number(value: float) -> str:
    """Return a figure with about three digits that mean something."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.01 else "0"


def _row_from(data: dict[str, Any]) -> Row:
    cells = {name: Cell(**cell) for name, cell in data.pop("cells").items()}
    return Row(**data, cells=cells)
