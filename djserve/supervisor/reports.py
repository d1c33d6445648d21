"""What workers say they are doing, collected from all of them with a deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from djserve.supervisor.messages import Calls

REPORT_TIMEOUT = 1.0
"""Seconds for a worker to say what it is doing; a blocked one does not."""

CallsByWorker: TypeAlias = "dict[int, Calls]"


class Asked(Protocol):
    """A worker, as far as it is asked."""

    @property
    def number(self) -> int: ...
    def ask_for_calls(self, number: int, /) -> None: ...


class Reports:
    """Ask workers what they are doing, then pass their answers on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._count = 0
        self._open: dict[int, _Report] = {}

    def ask(
        self, workers: Sequence[Asked], tell: Callable[[CallsByWorker], None]
    ) -> None:
        """Ask the workers; ``tell`` gets the answers that came in time, by number."""
        self._count += 1
        deadline = self._clock() + REPORT_TIMEOUT
        report = _Report({worker.number for worker in workers}, deadline, tell)
        self._open[self._count] = report
        for worker in workers:
            worker.ask_for_calls(self._count)
        self._finish(self._count, is_due=False)

    def take(self, number: int, worker: int, calls: Calls) -> None:
        """Take a worker's answer to the question with that number."""
        report = self._open.get(number)
        if report is not None:
            report.missing.discard(worker)
            report.calls[worker] = calls
            self._finish(number, is_due=False)

    def tick(self, now: float) -> None:
        """Go on without the workers that do not answer."""
        for number, report in list(self._open.items()):
            self._finish(number, is_due=now >= report.deadline)

    def _finish(self, number: int, *, is_due: bool) -> None:
        report = self._open[number]
        if is_due or not report.missing:
            del self._open[number]
            report.tell(report.calls)


class _Report:
    def __init__(
        self,
        missing: set[int],
        deadline: float,
        tell: Callable[[CallsByWorker], None],
    ) -> None:
        self.missing = missing
        self.deadline = deadline
        self.tell = tell
        self.calls: CallsByWorker = {}
