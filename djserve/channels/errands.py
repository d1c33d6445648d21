"""A thread that does for a process what could not be done at once.

It lives while there is something: bytes that a peer had no room for, and messages to
plain names that had no receiver. It belongs to no loop, since the code that sent them
may run on none that lasts.
"""

from __future__ import annotations

import logging
import selectors
import threading
from collections.abc import Callable, Iterable
from typing import TypeAlias

logger = logging.getLogger("djserve")

Sockets: TypeAlias = Iterable[int]

# How soon it is looked again for receivers; the pause grows while there are none.
_SHORTEST = 0.02
_LONGEST = 0.5


class Errands:
    """Call ``work`` until it returns None, with pauses that the peers' sockets end.

    ``work`` returns the sockets to be watched for room; it takes the node's lock.
    """

    def __init__(self, work: Callable[[], Sockets | None]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._has_thread = False
        self._is_closed = False
        self._has_failed = False

    def start(self) -> None:
        """Start the worker unless it runs; any thread calls this."""
        with self._lock:
            if self._has_thread:
                return
            self._has_thread = True
            thread = threading.Thread(
                target=self._run, name="djserve-channels", daemon=True
            )
            thread.start()

    def close(self) -> None:
        """Stop soon, and do not start again."""
        with self._lock:
            self._is_closed = True
            self._has_thread = True
        self._news.set()

    def _run(self) -> None:
        pause = _SHORTEST
        while (sockets := self._next()) is not None:
            if self._wait(sockets, pause):
                pause = _SHORTEST
            else:
                pause = min(2 * pause, _LONGEST)

    def _next(self) -> Sockets | None:
        """Work, and return None if this thread is to end."""
        if self._is_closed:
            return None
        sockets = self._try()
        if sockets is not None:
            return sockets
        with self._lock:
            # What comes from now on starts a new thread.
            self._has_thread = False
        # What came before that moment relied on this one.
        sockets = self._try()
        if sockets is None:
            return None
        with self._lock:
            if self._has_thread:
                return None
            self._has_thread = True
        return sockets

    def _try(self) -> Sockets | None:
        """Work; after a failure, pause and try again, and log the first of a series."""
        try:
            sockets = self._work()
        except Exception:
            if not self._has_failed:
                logger.exception("Channel layer: messages wait that cannot be sent now")
            self._has_failed = True
            return ()
        self._has_failed = False
        return sockets

    def _wait(self, sockets: Sockets, pause: float) -> bool:
        """Wait for room in one of the sockets; True if there is."""
        try:
            return self._select(sockets, pause)
        except OSError:
            # A selector needs a descriptor, and none is left.
            self._news.wait(pause)
            return False

    def _select(self, sockets: Sockets, pause: float) -> bool:
        with selectors.DefaultSelector() as selector:
            for number in sockets:
                try:
                    selector.register(number, selectors.EVENT_WRITE)
                except (ValueError, OSError):
                    # Closed by another thread since.
                    continue
            if selector.get_map():
                return bool(selector.select(pause))
        self._news.wait(pause)
        return False
