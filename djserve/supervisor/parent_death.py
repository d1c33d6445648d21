"""The end of a parent, as the kernel tells its child of it (Linux, prctl(2)).

The channel's end tells a process too, but only one that runs and reads it: neither one
that is stopped (SIGSTOP) nor one whose application never returns. Elsewhere than on
Linux the channel is all there is.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)


def die_with(parent: int) -> Callable[[], None]:
    """Return what a new process calls before its program begins (``preexec_fn``).

    It gets SIGKILL when ``parent``, the process that calls this, ends; the program
    itself keeps that unless it asks for another signal.
    """

    def prepare() -> None:
        request_signal(signal.SIGKILL)
        # It may have ended before the request.
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def end_with(parent: int) -> Callable[[], None]:
    """Return the same as ``die_with``, but with SIGTERM: the program may finish."""

    def prepare() -> None:
        # A program that the supervisor starts is not to inherit what it holds back.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        request_signal(signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def request_signal(number: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent ends."""
    prctl: Any = getattr(_libc, "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, int(number))


def end_after(channel: int, seconds: float) -> None:
    """End this process ``seconds`` after its supervisor, whatever it is doing then.

    ``channel`` is a descriptor that the supervisor has the other end of. A process that
    is stopped runs on (SIGCONT), so that it can drain; the alarm clock is for one that
    does not. The loader's end is followed by SIGCONT as well, and means nothing.
    """

    def look(number: int, frame: FrameType | None) -> None:
        if is_hung_up(channel):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 1.0))

    signal.signal(signal.SIGCONT, look)
    request_signal(signal.SIGCONT)


def is_hung_up(descriptor: int) -> bool:
    """Return whether the other end of a socket pair has been closed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLHUP | select.POLLNVAL) for _, event in poll.poll(0))
