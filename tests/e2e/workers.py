"""Two workers under a supervisor, and what clients see of them while they change."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

DEADLINE = 120.0


def wait_for(condition: Callable[[], object], interval: float = 0.01) -> None:
    """Return once the condition holds; fail where it never does."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(interval)


def start_workers(
    start_server: Callable[..., Any],
    folder: Path,
    port: int,
    *options: str,
    env: Mapping[str, str] | None = None,
) -> Any:
    """Return a server of ``app:application`` in a folder, once both workers are ready.

    Without Django, unless ``env`` names a project's settings.
    """
    words = ["-m", "djserve", "app:application", "--workers", "2"]
    words += ["--bind", f"127.0.0.1:{port}"]
    env = {"DJANGO_SETTINGS_MODULE": "", **(env or {})}
    server = start_server(*words, *options, port=port, cwd=folder, env=env)
    server.wait_for("Supervisor")
    return server


class Tally:
    """Counts of events, by name. Threads that note them lose none of each other's."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def note(self, event: str, count: int = 1) -> None:
        """Add to the count of an event."""
        with self._lock:
            self._counts[event] += count

    def __getitem__(self, event: str) -> int:
        with self._lock:
            return self._counts[event]

    def counts(self) -> Counter[str]:
        """Return what has been counted so far."""
        with self._lock:
            return self._counts.copy()
