from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from djserve.instrumentation.board import (
    BUCKETS,
    LAYOUT,
    METHODS,
    PROTOCOLS,
    SIZE,
    STATUS_LIMIT,
    TOTALS,
    VIEWS,
    Board,
    Figure,
    Meter,
    create_memory,
    duration_index,
    request_index,
)
from djserve.instrumentation.events import RequestRecord
from djserve.instrumentation.limits import LIMITS
from djserve.instrumentation.notes import DJANGO_REQUEST
from djserve.instrumentation.view_times import table_size
from djserve.interfaces import RequestHead


@pytest.fixture
def other() -> Iterator[Board]:
    other = Board()
    yield other
    other.close()


def test_new_board_counts_nothing(board: Board) -> None:
    numbers = board.numbers.tolist()
    assert numbers.pop(Figure.LAYOUT) == LAYOUT
    assert not any(numbers)
    assert board.requests() == {}
    assert board.durations() == [0] * (len(BUCKETS) + 1)


@pytest.mark.e2e
def test_child_process_writes_what_its_parent_reads(board: Board) -> None:
    code = (
        "from djserve.instrumentation.board import Board, Figure\n"
        f"Board({board.descriptor}).numbers[Figure.CALLS] = 7"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        pass_fds=[board.descriptor],
        timeout=300,
    )

    assert board.numbers[Figure.CALLS] == 7


def test_descriptor_leads_to_the_same_figures(board: Board) -> None:
    same = Board(os.dup(board.descriptor))
    same.numbers[Figure.REQUESTS] = 2**64 - 1

    assert board.numbers[Figure.REQUESTS] == 2**64 - 1
    same.close()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("version", "protocol"),
    list(zip(("1.0", "1.1", "2", "3", "4"), PROTOCOLS, strict=True)),
)
def test_request_is_found_as_it_was_counted(
    method: str, version: str, protocol: str, board: Board
) -> None:
    board.numbers[request_index(method, 404, version)] += 1

    assert board.requests() == {(method, 404, protocol): 1}


@pytest.mark.parametrize(
    ("method", "status", "counted"),
    [
        ("BREW", 418, ("other", 418, "HTTP/1.1")),
        ("GET", 0, ("GET", 0, "HTTP/1.1")),
        ("GET", 1006, ("GET", STATUS_LIMIT - 1, "HTTP/1.1")),
    ],
    ids=["unknown-method", "no-response", "beyond-the-table"],
)
def test_unusual_request_has_its_place(
    method: str, status: int, counted: tuple[str, int, str], board: Board
) -> None:
    board.numbers[request_index(method, status, "1.1")] += 1

    assert board.requests() == {counted: 1}


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.001, 0), (0.0011, 1), (30.0, 13), (30.1, 14), (1e9, 14)],
)
def test_duration_is_counted_below_its_bound(
    seconds: float, bucket: int, board: Board
) -> None:
    board.numbers[duration_index(seconds)] += 1

    assert board.durations().index(1) == bucket


def test_places_do_not_overlap() -> None:
    last_field = max(Figure)
    first_duration, last_duration = duration_index(0), duration_index(1e9)
    first_request = request_index("GET", 0, "1.0")
    last_request = request_index("other", STATUS_LIMIT, "other")

    assert last_field < first_duration
    assert last_duration < first_request
    # Behind them are the views, ten numbers each, the limits, and the views' times.
    times = table_size(len(BUCKETS) + 1)
    assert last_request == SIZE // 8 - times - 10 * VIEWS - len(LIMITS) - 1


def test_totals_outlive_their_worker(board: Board, other: Board) -> None:
    for each in (board, other):
        for field in Figure:
            each.numbers[field] = 2
        each.numbers[request_index("GET", 200, "2")] += 1
        each.numbers[duration_index(0.2)] += 1
        each.set_views({"shop": (1, 2)})
        each.set_limits({**dict.fromkeys(LIMITS, 0), LIMITS[-1]: 3})
    board.add_totals(other)

    assert {field for field in Figure if board.numbers[field] == 4} == set(TOTALS)
    assert board.requests() == {("GET", 200, "HTTP/2"): 2}
    assert sum(board.durations()) == 2
    assert board.views() == {"shop": (1, 2)}
    assert {key: n for key, n in board.limits().items() if n} == {LIMITS[-1]: 6}


def test_closed_board_gives_its_descriptor_up() -> None:
    board = Board()
    board.close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(board.descriptor)
    with pytest.raises(ValueError, match="released"):
        board.numbers[Figure.REQUESTS]


def test_memory_has_no_path_where_the_system_has_no_memfd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    descriptor = create_memory("figures", 4096)
    status = os.fstat(descriptor)
    os.close(descriptor)

    assert (status.st_size, status.st_nlink) == (4096, 0)


def test_views_with_the_most_threads_are_kept(board: Board) -> None:
    views = {f"view{number}": (number, 0) for number in range(1, 30)}
    board.set_views(views)
    most = board.views()
    board.set_views({"shop.views." + 60 * "x": (1, 2), "bücher": (0, 3)})

    assert list(most) == [f"view{number}" for number in range(29, 13, -1)]
    assert board.views() == {"shop.views." + 53 * "x": (1, 2), "bücher": (0, 3)}
    board.set_views({})
    assert board.views() == {}


def test_places_of_single_figures_stay_the_same_between_versions() -> None:
    assert {field.name: int(field) for field in Figure} == {
        "HEARTBEAT": 0,
        "IS_DRAINING": 1,
        "REQUESTS": 2,
        "CALLS": 3,
        "CONNECTIONS": 4,
        "CONNECTIONS_TOTAL": 5,
        "WEBSOCKETS": 6,
        "WEBSOCKETS_TOTAL": 7,
        "MESSAGES_RECEIVED": 8,
        "MESSAGES_SENT": 9,
        "BYTES_SENT": 10,
        "THREADS": 11,
        "THREADS_RUNNING": 12,
        "THREADS_QUEUED": 13,
        "LOOP_LAG": 14,
        "LOOP_LAG_WORST": 15,
        "DURATION_SUM": 16,
        "CONNECTIONS_REFUSED": 17,
        "CLIENT_MEMORY": 18,
        "UPLOAD_DISK": 19,
        "WEBSOCKET_WAITS": 20,
        "THREADS_WAITING": 21,
        "THREADS_PARKED": 22,
        "THREAD_WAIT": 23,
        "BODIES_LATE": 24,
        "UPLOADS_REFUSED": 25,
        "LAYOUT": 63,
    }


@pytest.mark.parametrize("size", [64 * 8, SIZE - 80, SIZE, SIZE + 800])
def test_board_of_another_version_gets_the_single_figures(size: int) -> None:
    theirs = create_memory("other-version", size)
    os.pwrite(theirs, (7).to_bytes(8, sys.byteorder), Figure.LAYOUT * 8)
    board = Board(os.dup(theirs))
    board.numbers[Figure.REQUESTS] = 5
    board.numbers[request_index("GET", 200, "1.1")] = 5
    board.show()

    words = memoryview(os.pread(theirs, size, 0)).cast("Q").tolist()
    assert {n: word for n, word in enumerate(words) if word} == {
        Figure.REQUESTS: 5,
        Figure.LAYOUT: 7,
    }
    assert board.has_other_layout
    assert board.requests() == {("GET", 200, "HTTP/1.1"): 5}
    board.close()
    os.close(theirs)


def test_board_of_the_same_version_is_shared(board: Board, other: Board) -> None:
    same = Board(os.dup(board.descriptor))

    assert not same.has_other_layout
    same.show()
    same.close()


def make_record(status: int, *, size: int = 0, duration: float = 0.0) -> RequestRecord:
    head = RequestHead("GET", b"/", b"", [], "1.1")
    return RequestRecord(head, None, "http", status, size, duration)


def test_requests_are_counted_with_size_and_duration(board: Board) -> None:
    meter = Meter(board)
    meter.request_finished(make_record(200, size=10, duration=0.25))
    meter.request_finished(make_record(404, size=5, duration=0.5))

    assert board.numbers[Figure.REQUESTS] == 2
    assert board.numbers[Figure.BYTES_SENT] == 15
    assert board.numbers[Figure.DURATION_SUM] == 750_000_000
    assert board.requests() == {
        ("GET", 200, "HTTP/1.1"): 1,
        ("GET", 404, "HTTP/1.1"): 1,
    }


def test_time_of_a_request_is_counted_for_its_view(board: Board) -> None:
    request = SimpleNamespace(resolver_match=SimpleNamespace(view_name="shop:cart"))
    meter = Meter(board)
    scopes: list[dict[str, Any] | None] = [
        {"extensions": {DJANGO_REQUEST: request}},
        {"extensions": {}},
        None,
    ]
    for scope in scopes:
        record = make_record(200, duration=0.25)
        record.scope = scope
        meter.request_finished(record)

    ((view, figures),) = board.view_times.read().items()
    assert view == "shop:cart"
    assert figures[BUCKETS.index(0.25)] == sum(figures[:-1]) == 1
    assert figures[-1] == 250_000_000


def test_times_of_views_outlive_their_worker(board: Board, other: Board) -> None:
    for each in (board, other):
        each.view_times.add("index", 2, 1000)
    board.add_totals(other)
    board.add_totals(other)

    assert board.view_times.read()["index"][2] == 3


def test_each_request_is_in_one_bucket(board: Board) -> None:
    meter = Meter(board)
    for duration in (0.0001, 0.3, 0.4, 99.0):
        meter.request_finished(make_record(200, duration=duration))

    assert sorted(board.durations())[-3:] == [1, 1, 2]
    assert sum(board.durations()) == 4


def test_connecting_websocket_is_not_counted_yet(board: Board) -> None:
    before = board.numbers.tolist()
    Meter(board).websocket_connecting(make_record(0))

    assert board.numbers.tolist() == before


def test_open_websocket_is_counted_until_it_is_closed(board: Board) -> None:
    meter = Meter(board)
    meter.websocket_accepted(make_record(101))
    assert board.numbers[Figure.WEBSOCKETS] == 1

    meter.websocket_closed(make_record(1000, duration=60.0))
    assert board.numbers[Figure.WEBSOCKETS] == 0
    assert board.numbers[Figure.WEBSOCKETS_TOTAL] == 1
    assert board.requests() == {("GET", 101, "HTTP/1.1"): 1}


def test_rejected_websocket_is_a_request(board: Board) -> None:
    Meter(board).websocket_rejected(make_record(403))

    assert board.requests() == {("GET", 403, "HTTP/1.1"): 1}
    assert board.numbers[Figure.WEBSOCKETS_TOTAL] == 0
