"""What the supervisor waits for: signals, and descriptors that can be read.

A signal's handler only notes it; the supervisor's loop acts.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType


_NAMES = "SIGTERM SIGINT SIGQUIT SIGHUP SIGUSR1 SIGUSR2 SIGTTIN SIGTTOU SIGCHLD"

HANDLED = tuple(
    getattr(signal, name) for name in _NAMES.split() if hasattr(signal, name)
)


def hold_signals() -> None:
    """Let signals wait until a queue is open; those that wait outlast execve."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)


class SignalQueue:
    """Collect signals while it is open, and wake a selector for each."""

    def __init__(self, numbers: Sequence[signal.Signals] = HANDLED) -> None:
        self._numbers = numbers
        self._queue: deque[signal.Signals] = deque()
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)

    def __enter__(self) -> SignalQueue:
        self._old_wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._old = [signal.signal(number, self._note) for number in self._numbers]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, old in zip(self._numbers, self._old, strict=True):
            signal.signal(number, old)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        """Return the descriptor that is readable once a signal has come."""
        return self._reader

    def take(self) -> list[signal.Signals]:
        """Return the signals that have come, each kind once, in their order."""
        try:
            os.read(self._reader, 4096)
        except BlockingIOError:
            pass
        numbers = dict.fromkeys(self._queue)
        for number in numbers:
            self._drop(number)
        return list(numbers)

    def _drop(self, number: signal.Signals) -> None:
        # A second TERM means another thing than the first and stays for its own turn.
        if number in (signal.SIGTERM, signal.SIGINT):
            self._queue.remove(number)
            if number in self._queue:
                os.write(self._writer, b"\0")
            return
        while number in self._queue:
            self._queue.remove(number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._queue.append(signal.Signals(number))


class HasFileno(Protocol):
    """What has a descriptor; compared by identity."""

    def fileno(self) -> int: ...


class Watcher:
    """Call a function when something can be read."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._actions: dict[object, Callable[[], None]] = {}

    def watch(self, source: HasFileno, act: Callable[[], None]) -> None:
        """Call ``act`` whenever ``source`` can be read."""
        self._actions[source] = act
        self._selector.register(source, selectors.EVENT_READ)

    def forget(self, source: HasFileno) -> None:
        """Watch ``source`` no more, if it is watched; called before it is closed."""
        if self._actions.pop(source, None) is not None:
            self._selector.unregister(source)

    def is_watched(self, source: HasFileno) -> bool:
        """Return whether ``source`` is watched."""
        return source in self._actions

    def run(self, timeout: float) -> None:
        """Wait for at most ``timeout`` seconds and make the calls that are due."""
        for key, _ in self._selector.select(timeout):
            # A call before may have forgotten this one.
            act = self._actions.get(key.fileobj)
            if act is not None:
                act()
