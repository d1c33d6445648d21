"""A worker's figures in memory that its supervisor can read, whatever the worker does.

Each is one unsigned 64-bit number that the worker alone writes. Nothing is sent: a
blocked worker's figures can be read too, and those of a killed one are not lost.

A worker may be of another version of djserve than its supervisor, after a reload that
follows an installation. The places of single figures are therefore the same in all
versions, and new ones are appended. The tables behind them may change: a worker finds
in LAYOUT that its supervisor has others, counts in separate memory then, and copies
the single figures to the supervisor's at each beat.
"""

# Shared memory without locks
#
# A lock in shared memory would be held for ever by a worker that is killed with it, and
# the supervisor would wait for a worker that is stopped. There are none, and this is
# why none is needed:
#
# - One writer. The worker alone writes its board; the supervisor reads. What has to be
#   summed up over workers is summed up by the reader.
# - One word. A figure is an aligned word of 64 bits, stored by one instruction: a
#   reader sees the old number or the new one. Figures that belong together (a count and
#   a sum) may be read between two stores, and are then out of step by one request,
#   which is of no importance to metrics.
# - Only totals survive. When a worker ends, what only grows is added to the board of
#   the retired (``add_totals``), so that no counter ever falls (a collector would take
#   that for a restart). What was a state, such as open connections, ends with its
#   worker.
#
# The memory has no name in the file system. It is passed on as a descriptor, and is
# gone with the last process that has it.
#
# A table has a place for each combination of method, status and protocol instead of a
# dictionary that grows: counting is an addition to a known place, the size is fixed,
# and a client that invents methods or statuses cannot make it grow. What has no place
# of its own is counted under "other".

from __future__ import annotations

import mmap
import os
import sys
import zlib
from bisect import bisect_left
from collections.abc import Mapping
from enum import IntEnum, auto
from itertools import chain
from typing import TYPE_CHECKING

from djserve.instrumentation.limits import LIMITS
from djserve.instrumentation.notes import take_view
from djserve.instrumentation.view_times import (
    NAME,
    ROWS,
    Numbers,
    ViewTimes,
    table_size,
)
from djserve.system import read_at

if TYPE_CHECKING:
    from djserve.instrumentation.events import RequestRecord

METHODS = (
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "CONNECT",
    "other",
)
PROTOCOLS = ("HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3", "other")
STATUS_LIMIT = 600
"""Statuses from 0, which stands for a request without a response."""

BUCKETS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""Upper bounds of the durations that are counted together, in seconds."""


class Figure(IntEnum):
    """The places of single figures; times are in nanoseconds.

    Never reordered, and removed ones leave a gap: other versions read them too.
    """

    HEARTBEAT = 0
    IS_DRAINING = auto()
    REQUESTS = auto()
    CALLS = auto()
    CONNECTIONS = auto()
    CONNECTIONS_TOTAL = auto()
    WEBSOCKETS = auto()
    WEBSOCKETS_TOTAL = auto()
    MESSAGES_RECEIVED = auto()
    MESSAGES_SENT = auto()
    BYTES_SENT = auto()
    THREADS = auto()
    THREADS_RUNNING = auto()
    THREADS_QUEUED = auto()
    LOOP_LAG = auto()
    LOOP_LAG_WORST = auto()
    DURATION_SUM = auto()
    CONNECTIONS_REFUSED = auto()
    CLIENT_MEMORY = auto()
    UPLOAD_DISK = auto()
    WEBSOCKET_WAITS = auto()
    THREADS_WAITING = auto()
    THREADS_PARKED = auto()
    THREAD_WAIT = auto()
    BODIES_LATE = auto()
    UPLOADS_REFUSED = auto()
    LAYOUT = 63


TOTALS = (
    Figure.REQUESTS,
    Figure.CONNECTIONS_TOTAL,
    Figure.WEBSOCKETS_TOTAL,
    Figure.MESSAGES_RECEIVED,
    Figure.MESSAGES_SENT,
    Figure.BYTES_SENT,
    Figure.DURATION_SUM,
    Figure.CONNECTIONS_REFUSED,
    Figure.WEBSOCKET_WAITS,
    Figure.BODIES_LATE,
    Figure.UPLOADS_REFUSED,
)
"""What only grows, and outlives its worker."""

_DURATIONS = 64
_REQUESTS = 128
_LENGTH = _REQUESTS + len(METHODS) * len(PROTOCOLS) * STATUS_LIMIT

VIEWS = 16
"""Views whose threads are on the board, those with the most."""

_NAME = 8
_VIEW = _NAME + 2
_LIMITS = _LENGTH + VIEWS * _VIEW
_VIEW_TIMES = _LIMITS + len(LIMITS)
_BUCKETS = len(BUCKETS) + 1
SIZE = (_VIEW_TIMES + table_size(_BUCKETS)) * 8

_TABLES = (METHODS, PROTOCOLS, STATUS_LIMIT, BUCKETS, VIEWS, _NAME, LIMITS, ROWS, NAME)
LAYOUT = zlib.crc32(repr(_TABLES).encode())
"""What the tables are like, in one number; 0 in versions that did not tell it."""

_METHOD_INDEX = {method: index for index, method in enumerate(METHODS)}
_PROTOCOL_INDEX = {"1.0": 0, "1.1": 1, "2": 2, "3": 3}


class Board:
    """The figures of one worker, in memory that a descriptor can share."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._shown: mmap.mmap | None = None
        if descriptor is not None and not _has_our_layout(descriptor):
            size = min(os.fstat(descriptor).st_size, _DURATIONS * 8)
            self._shown = mmap.mmap(descriptor, size)
            os.close(descriptor)
            descriptor = None
        is_new = descriptor is None
        if descriptor is None:
            descriptor = create_memory("djserve-board", SIZE)
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, SIZE)
        self.numbers: Numbers = memoryview(self._memory).cast("Q")
        self.view_times = ViewTimes(self.numbers, _VIEW_TIMES, _BUCKETS)
        if is_new:
            self.numbers[Figure.LAYOUT] = LAYOUT

    @property
    def has_other_layout(self) -> bool:
        """Whether the supervisor's board has other tables than this one."""
        return self._shown is not None

    def show(self) -> None:
        """Copy the single figures to a board of another version, if there is one."""
        if self._shown is not None:
            # All but the last, which tells what the other's tables are like.
            size = min(len(self._shown), Figure.LAYOUT * 8)
            self._shown[:size] = self._memory[:size]

    def close(self) -> None:
        """Give the memory up; the figures cannot be read after that."""
        self.numbers.release()
        self._memory.close()
        os.close(self.descriptor)
        if self._shown is not None:
            self._shown.close()

    def requests(self) -> dict[tuple[str, int, str], int]:
        """Return the requests counted by method, status and protocol."""
        table = self.numbers[_REQUESTS:_LENGTH]
        return {
            _labels(index): count for index, count in enumerate(table.tolist()) if count
        }

    def durations(self) -> list[int]:
        """Return the requests in each of ``BUCKETS``, and those beyond the last."""
        return self.numbers[_DURATIONS : _DURATIONS + len(BUCKETS) + 1].tolist()

    def set_views(self, views: Mapping[str, tuple[int, int]]) -> None:
        """Write down how many threads views have, and how many calls wait for one."""
        numbers = self.numbers
        most = sorted(views.items(), key=lambda item: item[1], reverse=True)[:VIEWS]
        for index in range(VIEWS):
            start = _LENGTH + index * _VIEW
            if index == len(most):
                # What follows is older.
                numbers[start] = 0
                return
            name, figures = most[index]
            text = name.encode(errors="replace")[: _NAME * 8].ljust(_NAME * 8, b"\0")
            for offset in range(_NAME):
                word = text[offset * 8 : offset * 8 + 8]
                numbers[start + offset] = int.from_bytes(word, sys.byteorder)
            numbers[start + _NAME], numbers[start + _NAME + 1] = figures

    def views(self) -> dict[str, tuple[int, int]]:
        """Return what ``set_views`` has written; names are cut to 64 bytes."""
        views: dict[str, tuple[int, int]] = {}
        for index in range(VIEWS):
            start = _LENGTH + index * _VIEW
            words = self.numbers[start : start + _VIEW].tolist()
            if not words[0]:
                break
            text = b"".join(word.to_bytes(8, sys.byteorder) for word in words[:_NAME])
            name = text.rstrip(b"\0").decode(errors="replace")
            views[name] = (words[_NAME], words[_NAME + 1])
        return views

    def set_limits(self, counts: Mapping[str, int]) -> None:
        """Write down how often each of LIMITS has been reached."""
        for index, setting in enumerate(LIMITS, _LIMITS):
            self.numbers[index] = counts[setting]

    def limits(self) -> dict[str, int]:
        """Return how often each of LIMITS has been reached."""
        counts = self.numbers[_LIMITS : _LIMITS + len(LIMITS)].tolist()
        return dict(zip(LIMITS, counts, strict=True))

    def add_totals(self, other: Board) -> None:
        """Take over what only grows from the board of a worker that has ended."""
        ours, theirs = self.numbers, other.numbers
        for field in TOTALS:
            ours[field] += theirs[field]
        tables = (range(_DURATIONS, _LENGTH), range(_LIMITS, _LIMITS + len(LIMITS)))
        for index in chain(*tables):
            if theirs[index]:
                ours[index] += theirs[index]
        self.view_times.add_all(other.view_times.read())


def _has_our_layout(descriptor: int) -> bool:
    if os.fstat(descriptor).st_size != SIZE:
        return False
    word = read_at(descriptor, 8, Figure.LAYOUT * 8)
    return int.from_bytes(word, sys.byteorder) == LAYOUT


def create_memory(name: str, size: int) -> int:
    """Return the descriptor of a file in memory that no path leads to."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(name)
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, size)
    return descriptor


def request_index(method: str, status: int, http_version: str) -> int:
    """Return where requests of this kind are counted."""
    kind = _METHOD_INDEX.get(method, len(METHODS) - 1) * len(PROTOCOLS)
    kind += _PROTOCOL_INDEX.get(http_version, len(PROTOCOLS) - 1)
    return _REQUESTS + kind * STATUS_LIMIT + min(status, STATUS_LIMIT - 1)


def duration_index(seconds: float) -> int:
    """Return where requests of this duration are counted."""
    return _DURATIONS + find_bucket(seconds)


def find_bucket(seconds: float) -> int:
    """Return which of ``BUCKETS`` a duration falls into, their number if into none."""
    return bisect_left(BUCKETS, seconds)


def _labels(index: int) -> tuple[str, int, str]:
    kind, status = divmod(index, STATUS_LIMIT)
    method, protocol = divmod(kind, len(PROTOCOLS))
    return METHODS[method], status, PROTOCOLS[protocol]


class Meter:
    """Count requests and WebSockets on a board; a RequestLog."""

    def __init__(self, board: Board) -> None:
        self._numbers = board.numbers
        self._view_times = board.view_times

    def request_finished(self, record: RequestRecord) -> None:
        self._count(record, record.status)
        view = take_view(record.scope)
        if view:
            seconds = record.duration
            self._view_times.add(view, find_bucket(seconds), int(seconds * 1e9))

    def websocket_connecting(self, record: RequestRecord) -> None:
        """Wait for what becomes of it."""

    def websocket_accepted(self, record: RequestRecord) -> None:
        self._numbers[Figure.WEBSOCKETS] += 1
        self._numbers[Figure.WEBSOCKETS_TOTAL] += 1
        self._count(record, record.status)

    def websocket_rejected(self, record: RequestRecord) -> None:
        self._count(record, record.status)

    def websocket_closed(self, record: RequestRecord) -> None:
        self._numbers[Figure.WEBSOCKETS] -= 1

    def _count(self, record: RequestRecord, status: int) -> None:
        numbers = self._numbers
        head = record.head
        numbers[Figure.REQUESTS] += 1
        numbers[Figure.BYTES_SENT] += record.size
        numbers[Figure.DURATION_SUM] += int(record.duration * 1e9)
        numbers[duration_index(record.duration)] += 1
        numbers[request_index(head.method, status, head.http_version)] += 1
