"""Figures of threads, as the pool of the Django handler gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ThreadFigures:
    threads: int
    running: int
    queued: int
    waiting: int = 0
    parked: int = 0
    oldest_wait: float = 0.0
    by_view: Mapping[str, tuple[int, int]] = field(default_factory=dict)
