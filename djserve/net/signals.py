"""Signals -> calls in the event loop, also for a loop that handles none itself.

Those of Windows do not, so that Ctrl-C would end the loop where it stands.
"""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGBREAK")
    if hasattr(signal, name)
)
"""What ends a server; SIGBREAK is Ctrl-Break (Windows)."""


def find_signal(name: str) -> signal.Signals | None:
    """Return the signal of a name; None for one that this system does not have."""
    found: signal.Signals | None = getattr(signal, name, None)
    return found


def handle_signal(
    loop: AbstractEventLoop, number: signal.Signals, action: Callable[[], object]
) -> Callable[[], None]:
    """Call ``action`` in the loop when a signal comes; return what undoes this.

    Raises ValueError or RuntimeError in a thread that gets no signals.
    """
    try:
        loop.add_signal_handler(number, action)
    except NotImplementedError:
        return _Wakeup(loop, number, action).close
    if hasattr(signal, "pthread_sigmask"):
        # A mask that is inherited, or set when the application is imported, would keep
        # it away for ever: a server that no signal ends.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
    return lambda: _remove(loop, number)


def _remove(loop: AbstractEventLoop, number: signal.Signals) -> None:
    loop.remove_signal_handler(number)


class _Wakeup:
    """A signal's handler that wakes the loop: select() on Windows sleeps on."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        number: signal.Signals,
        action: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._number = number
        self._old = signal.signal(number, lambda *_: loop.call_soon_threadsafe(action))
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)
        loop.add_reader(self._reader, self._drain)
        self._old_wakeup = signal.set_wakeup_fd(
            self._writer.fileno(), warn_on_full_buffer=False
        )

    def close(self) -> None:
        """Let the signal do what it did before."""
        signal.set_wakeup_fd(self._old_wakeup)
        signal.signal(self._number, self._old)
        if not self._loop.is_closed():
            self._loop.remove_reader(self._reader)
        self._reader.close()
        self._writer.close()

    def _drain(self) -> None:
        try:
            self._reader.recv(4096)
        except BlockingIOError:
            return
