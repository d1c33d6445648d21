"""How much is done in each turn of an event loop, counted rather than timed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest


class TurnCounts:
    """Calls in each turn of the loop that makes them, by ``count``."""

    def __init__(self) -> None:
        self._counts = [0]

    @property
    def most(self) -> int:
        """The most in one turn."""
        return max(self._counts)

    @property
    def total(self) -> int:
        return sum(self._counts)

    def count(self, amount: int = 1) -> None:
        """Add to the turn under way."""
        if not self._counts[-1]:
            asyncio.get_running_loop().call_soon(self._counts.append, 0)
        self._counts[-1] += amount

    def count_calls(
        self,
        monkeypatch: pytest.MonkeyPatch,
        owner: Any,
        name: str,
        weigh: Callable[..., int] = lambda *args: 1,
    ) -> None:
        """Count each call of ``owner.name`` as ``weigh`` of its arguments."""
        function = getattr(owner, name)

        @wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count(weigh(*args))
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)
