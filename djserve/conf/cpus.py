"""The number of CPUs, which some settings are by default made of."""

from __future__ import annotations

import os


def count_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
