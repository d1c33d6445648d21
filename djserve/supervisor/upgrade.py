"""The change from one supervisor to the next, which may be another djserve (SIGUSR2).

The successor inherits the listening sockets and starts its own workers on them. Once
these are ready, it ends its predecessor as SIGTERM does.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

VARIABLE = "DJSERVE_UPGRADE"


def is_successor(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether another supervisor has started this process to succeed it."""
    return VARIABLE in environ


@dataclass(frozen=True)
class Inheritance:
    """The predecessor's process and sockets.

    ``owned`` are the unix sockets among them whose files go with the server.
    """

    predecessor: int
    sockets: tuple[int, ...]
    owned: tuple[int, ...]

    def to_environment(self) -> dict[str, str]:
        """Return the environment variable that tells a successor of it."""
        values = [self.predecessor, self.sockets, self.owned]
        return {VARIABLE: json.dumps(values)}

    @classmethod
    def take(cls, environ: MutableMapping[str, str] = os.environ) -> Inheritance | None:
        """Remove the variable and return its meaning, None where there is none."""
        text = environ.pop(VARIABLE, None)
        if text is None:
            return None
        predecessor, sockets, owned = json.loads(text)
        for number in sockets:
            os.set_inheritable(number, False)
        return cls(predecessor, tuple(sockets), tuple(owned))

    def end_predecessor(self) -> None:
        """Let the predecessor drain and end, unless it has ended already."""
        # A process that is not our parent any more has died, and its number may be
        # another's.
        if os.getppid() == self.predecessor:
            os.kill(self.predecessor, signal.SIGTERM)
