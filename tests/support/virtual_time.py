"""A loop whose clock goes on only when there is nothing else left to do.

Timers fire in their order and cost no time, and however slow the machine is, none of
them overtakes a callback that is ready. Not for code that waits for threads: to this
loop they are nothing to do.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _PatientSelector(selectors.DefaultSelector):
    """A selector that does not wait: it moves the clock on instead."""

    now = 0.0

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "Nothing is left to wait for"
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that begins at nought and skips the time of waiting."""

    def __init__(self) -> None:
        self._patient = _PatientSelector()
        super().__init__(self._patient)

    def time(self) -> float:
        return self._patient.now

    def block(self, seconds: float) -> None:
        """Be what a callback is that does not return for so long."""
        self._patient.now += seconds


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, as asyncio.run would, without waiting for timers."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
