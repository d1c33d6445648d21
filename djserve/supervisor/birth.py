"""What a process finds in its environment where a supervisor has started it."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from djserve.conf.cpus import count_cpus
from djserve.conf.process import become_worker

VARIABLE = "DJSERVE_LOADER"

_kept: str | None = None


@dataclass(frozen=True)
class Birth:
    """What a child finds in its environment."""

    channel: int
    sockets: tuple[int, ...]
    is_checked: bool = False
    """Whether another process has run the system checks on the same code."""

    def to_text(self) -> str:
        """Return the value of the environment variable."""
        return ",".join(map(str, (int(self.is_checked), self.channel, *self.sockets)))

    @classmethod
    def parse(cls, text: str) -> Birth:
        """Return the meaning of the environment variable."""
        is_checked, channel, *sockets = map(int, text.split(","))
        return cls(channel, tuple(sockets), bool(is_checked))

    @classmethod
    def take(cls, environ: MutableMapping[str, str] = os.environ) -> Birth | None:
        """Remove the variable and return its meaning, None in any other process."""
        global _kept
        text, _kept = environ.pop(VARIABLE, _kept), None
        if text is None:
            return None
        become_worker()
        birth = cls.parse(text)
        for number in (birth.channel, *birth.sockets):
            os.set_inheritable(number, False)
        return birth


def is_child(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether a supervisor has started this process, until birth is taken."""
    return VARIABLE in environ or _kept is not None


def is_checked(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the system checks have been run for this process by another."""
    text = environ.get(VARIABLE, _kept)
    return text is not None and Birth.parse(text).is_checked


def keep_birth(environ: MutableMapping[str, str] = os.environ) -> None:
    """Keep the variable from the programs that the project starts, for ``take``."""
    global _kept
    _kept = environ.pop(VARIABLE, _kept)
    become_worker()


def count_workers(configured: int | None) -> int:
    """Return the number of workers; None stands for one on each usable CPU."""
    return count_cpus() if configured is None else configured
