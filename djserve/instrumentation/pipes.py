"""Logs whose reader may stop reading: the server continues, and lines are lost.

A write to a full pipe waits until someone reads, and on the loop's thread the whole
server waits with it, to its end too: a stopped collector of logs would be enough, or
clients whose requests are logged as refused. Files, terminals and what has no
descriptor are written to as ever.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import time
from typing import TextIO

# A line is not lost for a collector that is only busy; twice in ten seconds it is.
PATIENCE = 0.5
_INTERVAL = 10.0

# A pipe that can be written to takes PIPE_BUF bytes at once; a character is up to four.
_PIECE = 1024


class PatientHandler(logging.StreamHandler[TextIO]):
    """Standard error, but never for longer than ``PATIENCE`` in ten seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._lost = 0
        self._is_in_line = False
        self._next_wait = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line if there is room for it, and first how many were lost."""
        try:
            text = self.format(record) + self.terminator
            descriptor = self._pipe()
            if descriptor is None:
                self.stream.write(text)
                self.flush()
            elif not self._write(descriptor, self._lost_line() + text):
                self._lost += 1
        except Exception:
            self.handleError(record)

    def _lost_line(self) -> str:
        start = self.terminator if self._is_in_line else ""
        if not self._lost:
            return start
        return (
            f"{start}{self._lost} lines of the log were lost: its reader took nothing\n"
        )

    def _write(self, descriptor: int, text: str) -> bool:
        """Return whether all of it was written."""
        for start in range(0, len(text), _PIECE):
            if not self._has_room(descriptor):
                return False
            self._lost = 0
            self._is_in_line = start + _PIECE < len(text)
            self.stream.write(text[start : start + _PIECE])
            self.flush()
        return True

    def _has_room(self, descriptor: int) -> bool:
        if is_writable(descriptor):
            return True
        now = time.monotonic()
        if now < self._next_wait:
            return False
        self._next_wait = now + _INTERVAL
        return is_writable(descriptor, PATIENCE)

    def _pipe(self) -> int | None:
        """Return the descriptor if it is one that may be full for long."""
        try:
            descriptor = self.stream.fileno()
            return descriptor if may_be_full(descriptor) else None
        except (AttributeError, OSError, ValueError):
            return None


def may_be_full(descriptor: int) -> bool:
    """Return whether a write may wait for a reader: to pipes and sockets."""
    mode = os.fstat(descriptor).st_mode
    # Without poll() it cannot be seen whether one is (Windows).
    return hasattr(select, "poll") and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))


def is_writable(descriptor: int, seconds: float = 0.0) -> bool:
    """Return whether a write of a piece will not wait, within so many seconds."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    # A reader that has gone is "writable": the write tells it.
    return bool(poll.poll(seconds * 1000))
