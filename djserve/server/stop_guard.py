"""A second stop signal ends the process even if its event loop is blocked.

A loop takes signals between its turns: while the application blocks it (a view on the
loop that sleeps, a shutdown that waits for a lock) nothing would end a process that has
no supervisor but SIGKILL.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from typing import TYPE_CHECKING

from djserve.system import end_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

logger = logging.getLogger("djserve")

PATIENCE = 2.0
"""Seconds that the loop has for taking the signal: it may only be busy."""


class StopGuard:
    """Count stop signals as they come, and those that the loop has taken.

    ``exit_process`` gets the exit code; it is called in a thread.
    """

    def __init__(
        self,
        exit_process: Callable[[int], object] = end_process,
        patience: float = PATIENCE,
    ) -> None:
        self._exit_process = exit_process
        self._patience = patience
        self._came = 0
        self._taken = 0
        self._is_over = False

    def around(self, action: Callable[[], object]) -> Callable[[], None]:
        """Return what the loop is to call for a signal, in place of ``action``."""

        def take() -> None:
            self._taken = self._came
            action()

        return take

    def watch(self, numbers: Iterable[signal.Signals]) -> None:
        """Watch signals that the loop handles; called in the main thread.

        The loop's own handler is called first, and removing that removes this one.
        """
        for number in numbers:
            signal.signal(number, self._noting(signal.getsignal(number)))

    def close(self) -> None:
        """The server has ended: no signal is waited for any more."""
        self._is_over = True

    def _noting(
        self, before: Callable[[int, FrameType | None], object] | int | None
    ) -> Callable[[int, FrameType | None], None]:
        def note(number: int, frame: FrameType | None) -> None:
            if callable(before):
                before(number, frame)
            self._came += 1
            if self._came > 1:
                threading.Thread(
                    target=self._await_loop, args=(self._came, number), daemon=True
                ).start()

        return note

    def _await_loop(self, count: int, number: int) -> None:
        time.sleep(self._patience)
        if self._is_over or self._taken >= count:
            return
        logger.error(
            "A second %s, and the event loop is blocked by the application: the "
            "process ends at once",
            signal.Signals(number).name,
        )
        # As a shell names the end by a signal.
        self._exit_process(128 + number)
