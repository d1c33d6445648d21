"""Who is measured again in a scenario, so that time goes where figures are close."""

from __future__ import annotations

from benchmarks.model import THE_FOUR, Row
from benchmarks.servers import RAW_ECHO, WSGI_IN_PROCESS

FAR_BEHIND = 0.5
"""A peer with less than this part of the leader's figure is measured once."""
ALIKE = 0.05
"""Two rounds are enough if they differ from their median by less than this."""
LATER_SHARE = 0.5
"""The part of the contenders that a round after the first has, on average."""

BOUNDS = (RAW_ECHO, WSGI_IN_PROCESS)
"""No servers: they say what can be measured, and lead no race."""


def expected_count(contenders: int, rounds: int, *, is_whole: bool) -> int:
    """Return about how many measurements a scenario makes."""
    share = 1.0 if is_whole else LATER_SHARE
    return round(contenders * (1 + (rounds - 1) * share))


def wants_another(row: Row, contender: str) -> bool:
    """Return whether one more round may change what the row says of a contender.

    djserve and the best of the four are never far behind: the row compares them.
    """
    cell = row.cells[contender]
    if not cell.values:
        return True
    if len(cell.values) > 1:
        return cell.spread > ALIKE
    return not _is_far_behind(row, contender)


def _is_far_behind(row: Row, contender: str) -> bool:
    best = row.best(THE_FOUR)
    if contender in ("djserve", *BOUNDS) or (best and contender == best[0]):
        return False
    merits = {name: _merit(row, name) for name in row.cells}
    leading = max(merits[name] for name in merits if name not in BOUNDS)
    return merits[contender] < leading * FAR_BEHIND


def _merit(row: Row, contender: str) -> float:
    """Return a figure that is greater the better the contender is; 0 without one."""
    median = row.median(contender)
    if not median or median < 0:
        return 0.0
    return 1 / median if row.less_is_better else median
