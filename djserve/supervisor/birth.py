"""What a process finds in its environment where a supervisor has started it."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from djserve.conf.cpus import count_cpus

VARIABLE = "DJSERVE_LOADER"


@dataclass(frozen=True)
class Birth:
    """What a child finds in its environment."""

    channel: int
    sockets: tuple[int, ...]

    def to_text(self) -> str:
        """Return the value of the environment variable."""
        return ",".join(map(str, (self.channel, *self.sockets)))

    @classmethod
    def take(cls, environ: MutableMapping[str, str] = os.environ) -> Birth | None:
        """Remove the variable and return its meaning, None in any other process."""
        text = environ.pop(VARIABLE, None)
        if text is None:
            return None
        channel, *sockets = map(int, text.split(","))
        for number in (channel, *sockets):
            os.set_inheritable(number, False)
        return cls(channel, tuple(sockets))


def is_child(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether a supervisor has started this process, before its birth is taken."""
    return VARIABLE in environ


def count_workers(configured: int | None) -> int:
    """Return the number of workers; None stands for one on each usable CPU."""
    return count_cpus() if configured is None else configured
