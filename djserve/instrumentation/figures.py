"""What all boards tell together, as families of samples, before any format of them.

Whichever process is asked, the counters are those of all workers since the start.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from djserve.instrumentation.board import BUCKETS, Figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from djserve.instrumentation.board import Board

Process: TypeAlias = tuple[str, int, int]
"""One of PROCESSES: its name, how many run, how many have ended unasked."""

TOTALS = {
    Figure.CONNECTIONS_TOTAL: ("connections", "Connections accepted"),
    Figure.CONNECTIONS_REFUSED: (
        "connections_refused",
        "Connections beyond CONNECTION_LIMIT",
    ),
    Figure.WEBSOCKETS_TOTAL: ("websockets", "WebSockets accepted"),
    Figure.WEBSOCKET_WAITS: (
        "websocket_waits",
        "Times that a WebSocket was read on in a later turn of the event loop",
    ),
    Figure.BYTES_SENT: ("response_bytes", "Bytes of response content sent"),
    Figure.BODIES_LATE: (
        "request_bodies_late",
        "Requests whose content took longer than BODY_TIME_LIMIT",
    ),
    Figure.UPLOADS_REFUSED: (
        "uploads_refused",
        "Requests whose content was beyond UPLOAD_DISK_LIMIT",
    ),
}

GAUGES = {
    Figure.CALLS: ("requests_in_flight", "Application calls that run"),
    Figure.CONNECTIONS: ("connections_open", "Connections that are open"),
    Figure.CLIENT_MEMORY: (
        "client_memory_bytes",
        "Bytes that wait for clients or from them",
    ),
    Figure.UPLOAD_DISK: (
        "upload_disk_bytes",
        "Bytes of request content in temporary files",
    ),
    Figure.WEBSOCKETS: ("websockets_open", "WebSockets that are open"),
    Figure.THREADS: ("threads", "Threads for synchronous code"),
    Figure.THREADS_RUNNING: ("threads_running", "Threads that run synchronous code"),
    Figure.THREADS_WAITING: ("threads_waiting", "Those of them that only wait"),
    Figure.THREADS_PARKED: ("threads_parked", "Threads held for their next call"),
    Figure.THREADS_QUEUED: ("thread_queue", "Calls that wait for a thread"),
}


class FigureKind(Enum):
    """What becomes of a figure: a counter and a histogram only grow."""

    COUNTER = auto()
    GAUGE = auto()
    HISTOGRAM = auto()


class Histogram(NamedTuple):
    """How many fell into each of ``BUCKETS`` and beyond the last, and their sum."""

    counts: tuple[int, ...]
    total: float

    def since(self, before: Histogram | None) -> Histogram:
        """Return what has been counted after ``before``."""
        if before is None:
            return self
        counts = zip(self.counts, before.counts, strict=True)
        return Histogram(
            tuple(max(0, now - then) for now, then in counts),
            max(0.0, self.total - before.total),
        )


@dataclass(frozen=True, slots=True)
class Family:
    """Figures of one name: a value for each set of labels.

    ``name`` has neither a prefix nor the suffix of a counter; a unit is its last word.
    A histogram's values are ``histograms``, all others' ``values``.
    """

    name: str
    kind: FigureKind
    text: str
    labels: tuple[str, ...] = ()
    values: dict[tuple[str, ...], float] = field(default_factory=dict)
    histograms: dict[tuple[str, ...], Histogram] = field(default_factory=dict)


def read_figures(
    live: Sequence[tuple[str, Board]],
    retired: Board | None = None,
    restarts: int = 0,
    processes: Sequence[Process] = (),
) -> list[Family]:
    """Return the figures of the workers: ``live`` by name, and the ended ones."""
    boards = [board for _, board in live]
    everyone = boards if retired is None else [*boards, retired]
    return [
        _requests(everyone),
        _durations(everyone),
        _view_durations(everyone),
        *_totals(everyone),
        _messages(everyone),
        _limits(everyone),
        *_gauges(boards),
        *_views(boards),
        _longest_wait(boards),
        _lag(live),
        _single("workers", FigureKind.GAUGE, "Worker processes that serve", len(live)),
        _single(
            "worker_restarts",
            FigureKind.COUNTER,
            "Workers that ended unexpectedly",
            restarts,
        ),
        *_processes(processes),
    ]


def _single(name: str, kind: FigureKind, text: str, value: float) -> Family:
    return Family(name, kind, text, values={(): value})


def _sum(boards: Iterable[Board], figure: Figure) -> int:
    return sum(board.numbers[figure] for board in boards)


def _requests(boards: Sequence[Board]) -> Family:
    counts: Counter[tuple[str, int, str]] = Counter()
    for board in boards:
        counts.update(board.requests())
    return Family(
        "requests",
        FigureKind.COUNTER,
        "Requests by method, status (0: none was sent) and protocol",
        ("method", "status", "protocol"),
        {
            (method, str(status), protocol): count
            for (method, status, protocol), count in sorted(counts.items())
        },
    )


def _durations(boards: Sequence[Board]) -> Family:
    nothing = [0] * (len(BUCKETS) + 1)
    columns = zip(nothing, *(board.durations() for board in boards), strict=True)
    total = _sum(boards, Figure.DURATION_SUM) / 1e9
    return Family(
        "request_duration_seconds",
        FigureKind.HISTOGRAM,
        "Time from a request's head to its end",
        histograms={(): Histogram(tuple(map(sum, columns)), total)},
    )


def _view_durations(boards: Sequence[Board]) -> Family:
    views: dict[str, list[int]] = {}
    for board in boards:
        for view, figures in board.view_times.read().items():
            known = views.get(view, [0] * len(figures))
            views[view] = [sum(pair) for pair in zip(known, figures, strict=True)]
    return Family(
        "view_duration_seconds",
        FigureKind.HISTOGRAM,
        "Time from the head to the end of a request that a view has answered",
        ("view",),
        histograms={
            (view,): Histogram(tuple(counts), nanoseconds / 1e9)
            for view, (*counts, nanoseconds) in sorted(views.items())
        },
    )


def _totals(boards: Sequence[Board]) -> Iterator[Family]:
    for figure, (name, text) in TOTALS.items():
        yield _single(name, FigureKind.COUNTER, text, _sum(boards, figure))


def _gauges(boards: Sequence[Board]) -> Iterator[Family]:
    for figure, (name, text) in GAUGES.items():
        yield _single(name, FigureKind.GAUGE, text, _sum(boards, figure))


def _messages(boards: Sequence[Board]) -> Family:
    return Family(
        "websocket_messages",
        FigureKind.COUNTER,
        "WebSocket messages",
        ("direction",),
        {
            ("received",): _sum(boards, Figure.MESSAGES_RECEIVED),
            ("sent",): _sum(boards, Figure.MESSAGES_SENT),
        },
    )


def _limits(boards: Sequence[Board]) -> Family:
    counts: Counter[str] = Counter()
    for board in boards:
        counts.update(board.limits())
    return Family(
        "limits_reached",
        FigureKind.COUNTER,
        "Requests, connections and WebSockets that a setting has refused or closed",
        ("setting",),
        {(setting,): count for setting, count in counts.items()},
    )


def _views(boards: Sequence[Board]) -> Iterator[Family]:
    running: Counter[str] = Counter()
    queued: Counter[str] = Counter()
    for board in boards:
        for view, (threads, calls) in board.views().items():
            running[view] += threads
            queued[view] += calls
    for name, text, counts in (
        ("threads", "Threads that a view has", running),
        ("thread_queue", "Calls of a view that wait for a thread", queued),
    ):
        values = _by_one_label(counts)
        yield Family(f"view_{name}", FigureKind.GAUGE, text, ("view",), values)


def _longest_wait(boards: Sequence[Board]) -> Family:
    waits = (board.numbers[Figure.THREAD_WAIT] for board in boards)
    return _single(
        "thread_wait_seconds",
        FigureKind.GAUGE,
        "How long the call has waited that has waited for longest",
        max(waits, default=0) / 1e9,
    )


def _lag(live: Sequence[tuple[str, Board]]) -> Family:
    return Family(
        "loop_lag_seconds",
        FigureKind.GAUGE,
        "How late the event loop's last timer was",
        ("worker",),
        {(name,): board.numbers[Figure.LOOP_LAG] / 1e9 for name, board in live},
    )


def _processes(processes: Sequence[Process]) -> Iterator[Family]:
    if not processes:
        return
    for name, kind, text, place in (
        ("processes", FigureKind.GAUGE, "Processes alongside the workers", 1),
        (
            "process_restarts",
            FigureKind.COUNTER,
            "Processes alongside the workers that ended unasked",
            2,
        ),
    ):
        counts = {process[0]: int(process[place]) for process in processes}
        yield Family(name, kind, text, ("name",), _by_one_label(counts))


def _by_one_label(counts: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    return {(label,): count for label, count in sorted(counts.items())}
