"""Signals that come before a server handles them: they would end the process.

A deployment sends SIGHUP after it has renewed a certificate, and logrotate SIGUSR1,
whether or not the process is just being started. SIGTERM keeps its default action: it
ends a process that serves nothing yet, even one whose application hangs in C code.
"""

from __future__ import annotations

import atexit
import os
import signal
from typing import TYPE_CHECKING

from djserve.system import end_process

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import FrameType

HELD = tuple(
    getattr(signal, name)
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)

_noted: dict[int, None] = {}
_is_holding = False

_INIT = 1
"""The process id of the first process of a container."""


def hold() -> None:
    """Note these signals until they are handled, unless they are ignored (nohup).

    Called first of all, in the main thread. Not by blocking them: the programs that the
    application starts when it is imported would have them blocked, too.
    """
    global _is_holding
    if not _is_holding:
        _is_holding = True
        # The first that is registered is the last that is called.
        atexit.register(_ignore)
    for number in HELD:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _note)
    # The kernel takes no default action for it (pid_namespaces(7)): without a handler
    # a container whose application is being imported could not be stopped.
    if os.getpid() == _INIT and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def hold_again() -> None:
    """Do so once more after they were handled, if this process had done it before."""
    if _is_holding:
        hold()


def release() -> None:
    """Take no further interest in them: this process is a supervisor's child."""
    global _is_holding
    _is_holding = False
    atexit.unregister(_ignore)
    _noted.clear()


def is_holding() -> bool:
    """Return whether this process, which serves alone, has called ``hold``."""
    return _is_holding


def take(numbers: Collection[signal.Signals]) -> list[signal.Signals]:
    """Return which of some signals have come, once."""
    taken = [number for number in numbers if number in _noted]
    for number in taken:
        del _noted[number]
    return taken


def has_terminal() -> bool:
    """Return whether a terminal controls this process, whose end is a SIGHUP."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | getattr(os, "O_NOCTTY", 0)))
    except OSError:
        return False
    return True


def _ignore() -> None:
    """Let none change how the process ends: Python takes its handlers away at last."""
    for number in HELD:
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, frame: FrameType | None) -> None:
    if os.getpid() == _INIT:
        end_process(128 + number)
    # A fork of it ends as any other process.
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _note(number: int, frame: FrameType | None) -> None:
    _noted[number] = None
