"""Which files this process has open, whatever other threads open and close."""

from __future__ import annotations

import os


def open_descriptors() -> set[tuple[int, str]]:
    """Return the open descriptors, each with what it leads to.

    Compare sets, not sizes: garbage of earlier tests may be closed at any time.
    """
    found: set[tuple[int, str]] = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:
            # The one that the folder was read by, for instance.
            continue
    return found
