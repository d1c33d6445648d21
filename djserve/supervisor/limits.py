"""How long a worker serves before another takes its place."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djserve.conf.schema import WorkersConfig


@dataclass(frozen=True)
class Limits:
    """One worker's limits, which differ a little from those of the others."""

    requests: float
    age: float
    memory: float

    @classmethod
    def draw(cls, config: WorkersConfig, chance: random.Random) -> Limits:
        """Return the configured limits, each less up to ``worker_jitter`` per cent."""

        def vary(limit: float | None) -> float:
            if limit is None:
                return float("inf")
            return limit * (1 - chance.random() * config.worker_jitter / 100)

        return cls(
            vary(config.worker_max_requests),
            vary(config.worker_max_age),
            vary(config.worker_max_memory),
        )

    def find_reason(self, requests: int, age: float, memory: int) -> str:
        """Return which limit is reached, "" where none is."""
        if requests >= self.requests:
            return f"it has answered {requests} requests"
        if age >= self.age:
            return f"it is {age:.0f} seconds old"
        if memory >= self.memory:
            return f"it uses {memory / 2**20:.0f} MiB"
        return ""
