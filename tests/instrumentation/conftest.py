from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from djserve.instrumentation.access_file import LineFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Timers:
    """The event loop's call_later: calls that wait until the test runs them."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def call_later(self, delay: float, call: Callable[[], None]) -> None:
        assert 0.1 <= delay <= 1
        self.calls.append(call)

    def run(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


@pytest.fixture
def timers() -> Timers:
    return Timers()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def lines(path: Path, timers: Timers) -> Iterator[LineFile]:
    file = LineFile(str(path), timers.call_later)
    yield file
    file.close()
