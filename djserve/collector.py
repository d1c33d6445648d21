"""The garbage collector while a project is loaded, in which next to nothing is garbage.

It looks for some each time that 700 objects more have been made, and at all that has
been imported each time that this has grown by a quarter: without finding anything that
is worth it, since modules, classes and functions stay.
"""

from __future__ import annotations

import gc
from typing import TypeAlias

Thresholds: TypeAlias = tuple[int, int, int]

_STARTING: Thresholds = (50_000, 20, 1000)

_changed: tuple[Thresholds, Thresholds] | None = None
"""What the thresholds were, and what they are until the start is over."""


def collect_seldom() -> None:
    """Have the collector run seldom until ``collect_as_usual``, if it runs at all."""
    global _changed
    usual = gc.get_threshold()
    if _changed is None and usual[0] and gc.isenabled():
        gc.set_threshold(*_STARTING)
        # Not each version of Python has a use for all three.
        _changed = usual, gc.get_threshold()


def collect_as_usual() -> None:
    """Undo ``collect_seldom``; what the application has chosen instead is its own."""
    global _changed
    changed, _changed = _changed, None
    if changed is not None and gc.get_threshold() == changed[1]:
        gc.set_threshold(*changed[0])
