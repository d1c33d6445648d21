"""Children that this process has not started: it adopts what a child leaves behind.

Process 1 of a container does, and one that has asked for it (PR_SET_CHILD_SUBREAPER).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


def reap_others(own: Collection[int]) -> Iterator[tuple[int, int]]:
    """Reap the children that have ended; yield each process and its exit code.

    The status of a process in ``own`` is left to who has started it. If one of these is
    found to have ended, the rest waits for the next call, which its SIGCHLD leads to.
    """
    while (pid := _find_ended()) is not None and pid not in own:
        _, status = os.waitpid(pid, 0)
        yield pid, os.waitstatus_to_exitcode(status)


def _find_ended() -> int | None:
    """Return a child that has ended, and leave it to be reaped."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid
