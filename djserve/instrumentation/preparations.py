"""What is called once a log or a trace first wants it; nothing of it is paid before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Preparations:
    """Functions that wait to be called, once each."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    def add(self, function: Callable[[], None]) -> None:
        """Have a function called at the next ``run``."""
        if function not in self._waiting:
            self._waiting.append(function)

    def run(self) -> None:
        """Call all that waits."""
        while self._waiting:
            self._waiting.pop(0)()
