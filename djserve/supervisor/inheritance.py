"""What a process inherits from the supervisor that has started it.

A child finds the channel and the sockets in its environment. A successor (SIGUSR2),
which may be another version of djserve, finds the sockets and starts its own workers on
them. Once these are ready, it ends its predecessor as SIGTERM does.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, MutableMapping

from djserve.conf.process import become_worker
from djserve.conf.processes import LARGEST_COUNT
from djserve.cpus import count_cpus, measure_cpus
from djserve.values import Values

LOADER_VARIABLE = "DJSERVE_LOADER"
UPGRADE_VARIABLE = "DJSERVE_UPGRADE"
FOLDER_VARIABLE = "DJSERVE_HTTP3_FOLDER"

_kept: str | None = None


class ChildEnvironment(Values):
    """What a child finds in its environment."""

    channel: int
    sockets: tuple[int, ...]
    is_checked: bool = False
    """Whether another process has run the system checks on the same code."""
    redirecting: tuple[int, ...] = ()
    """The sockets among them that redirect to https."""

    def to_text(self) -> str:
        """Return the value of the environment variable."""
        sockets = [
            f"{number}r" if number in self.redirecting else str(number)
            for number in self.sockets
        ]
        return ",".join([str(int(self.is_checked)), str(self.channel), *sockets])

    @classmethod
    def parse(cls, text: str) -> ChildEnvironment:
        """Return the meaning of the environment variable."""
        is_checked, channel, *sockets = text.split(",")
        return cls(
            int(channel),
            tuple(int(each.removesuffix("r")) for each in sockets),
            is_checked == "1",
            tuple(int(each[:-1]) for each in sockets if each.endswith("r")),
        )

    @classmethod
    def take(
        cls, environ: MutableMapping[str, str] = os.environ
    ) -> ChildEnvironment | None:
        """Remove the variable and return its meaning, None in any other process."""
        global _kept
        text, _kept = environ.pop(LOADER_VARIABLE, _kept), None
        if text is None:
            return None
        become_worker()
        given = cls.parse(text)
        for number in (given.channel, *given.sockets):
            os.set_inheritable(number, False)
        return given


def is_child(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether a supervisor has started this process, until that is taken."""
    return LOADER_VARIABLE in environ or _kept is not None


def is_checked(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the system checks have been run for this process by another."""
    text = environ.get(LOADER_VARIABLE, _kept)
    return text is not None and ChildEnvironment.parse(text).is_checked


def keep_environment(environ: MutableMapping[str, str] = os.environ) -> None:
    """Keep the variable from the programs that the project starts, for ``take``."""
    global _kept
    _kept = environ.pop(LOADER_VARIABLE, _kept)
    become_worker()


def count_workers(configured: int | None) -> int:
    """Return the number of workers; None stands for one on each usable CPU."""
    return min(count_cpus(), LARGEST_COUNT) if configured is None else configured


def explain_workers(configured: int | None) -> str:
    """Return where the number of workers comes from, "" if it was given."""
    return f" (auto: {measure_cpus().source})" if configured is None else ""


def is_successor(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether another supervisor has started this process to succeed it."""
    return UPGRADE_VARIABLE in environ


class Inheritance(Values):
    """The predecessor's process and sockets.

    ``owned`` are the unix sockets among them whose files go with the server,
    ``redirecting`` those that redirect to https. In ``folder`` the workers of both meet
    for HTTP/3.
    """

    predecessor: int
    sockets: tuple[int, ...]
    owned: tuple[int, ...]
    redirecting: tuple[int, ...] = ()
    folder: str = ""

    def to_environment(self) -> dict[str, str]:
        """Return the environment variables that tell a successor of it."""
        values: list[object] = [self.predecessor, self.sockets, self.owned]
        if self.redirecting:
            # A version that does not know of these gets no more than it can read.
            values.append(self.redirecting)
        found = {UPGRADE_VARIABLE: json.dumps(values)}
        return {**found, FOLDER_VARIABLE: self.folder} if self.folder else found

    @classmethod
    def take(cls, environ: MutableMapping[str, str] = os.environ) -> Inheritance | None:
        """Remove the variables and return their meaning, None if there is none."""
        folder = environ.pop(FOLDER_VARIABLE, "")
        text = environ.pop(UPGRADE_VARIABLE, None)
        if text is None:
            return None
        predecessor, *groups = json.loads(text)
        for number in groups[0]:
            os.set_inheritable(number, False)
        sockets, owned, *others = map(tuple, groups)
        redirecting = others[0] if others else ()
        return cls(predecessor, sockets, owned, redirecting, folder)

    def end_predecessor(self) -> None:
        """Let the predecessor drain and end, unless it has ended already."""
        # A process that is not our parent any more has died, and its number may be
        # another's.
        if os.getppid() == self.predecessor:
            os.kill(self.predecessor, signal.SIGTERM)
