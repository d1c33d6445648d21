"""What the system knows of processes: names, memory, ends, adopted children.

Process 1 of a container adopts what a child leaves behind, and so does a process that
has asked for it (PR_SET_CHILD_SUBREAPER).
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

STACK_SIGNAL: signal.Signals = getattr(signal, "SIGUSR2", signal.SIGTERM)
"""Makes a worker write the stacks of its threads, whatever it is doing."""


def reap_others(own: Collection[int]) -> Iterator[tuple[int, int]]:
    """Reap the children that have ended; yield each process and its exit code.

    The status of a process in ``own`` is left to the code that started it. If one of
    these has ended the rest waits for the next call, which its SIGCHLD leads to.
    """
    while (pid := _find_ended()) is not None and pid not in own:
        _, status = os.waitpid(pid, 0)
        yield pid, os.waitstatus_to_exitcode(status)


def _find_ended() -> int | None:
    """Return a child that has ended, and leave it to be reaped.

    None on macOS with a Python before 3.13, which has no waitid() there: what no code
    here started is then left to end with this process.
    """
    if not hasattr(os, "waitid"):
        return None
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid


def set_title(role: str) -> None:
    """Name this process "djserve: role".

    With the package setproctitle in the whole command line, else, on Linux, in the
    short name alone.
    """
    title = f"djserve: {role}"
    try:
        import setproctitle
    except ImportError:
        _set_short_name(title)
    else:
        setproctitle.setproctitle(title)


def _set_short_name(title: str) -> None:
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(title[:15])
    except OSError:
        return


def describe_end(code: int | None) -> str:
    """Return how a process has ended, as a phrase."""
    if code is None:
        return "ended"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}"


def resident_memory(pid: int | None) -> int:
    """Return a process's resident memory in bytes, 0 if it cannot be told."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
