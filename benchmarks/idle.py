"""Whether a request costs more the more connections stand idle beside it."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.model import Results

COUNTS = (1, 1000, 10_000)

# Less than this is within what two runs of the same program differ by.
NOTEWORTHY = 0.05


@dataclass(frozen=True, slots=True)
class Growth:
    """A contender's cost of a request, in microseconds, by the idle connections."""

    contender: str
    costs: dict[int, float]
    spread: float
    """Half the distance between a count's least and greatest, as a part of its cost."""

    @property
    def change(self) -> float:
        """What the most connections add to the cost beside the least, as a part."""
        least, most = self.costs[COUNTS[0]], self.costs[COUNTS[-1]]
        return most / least - 1

    @property
    def is_real(self) -> bool:
        """Whether it is more than the noise."""
        return self.change > max(self.spread, NOTEWORTHY)


def growth_of(results: Results, contender: str) -> Growth | None:
    """Return a contender's figures; None where one is missing."""
    costs: dict[int, float] = {}
    spreads = [0.0]
    for count in COUNTS:
        row = results.row(f"http1_idle_{count}")
        cell = row.cells.get(contender) if row else None
        if cell is None or not cell.cost:
            return None
        costs[count] = cell.cost
        spreads.append((max(cell.costs) - min(cell.costs)) / 2 / cell.cost)
    return Growth(contender, costs, max(spreads))
