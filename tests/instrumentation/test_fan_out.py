from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from djserve.instrumentation.board import Board, Figure, Meter
from djserve.instrumentation.events import RequestLog, RequestRecord
from djserve.instrumentation.fan_out import FanOut, combine, reopen_log_files
from djserve.interfaces import RequestHead
from djserve.server.observation import SlowLog


@pytest.fixture
def boards() -> Iterator[list[Board]]:
    boards = [Board(), Board()]
    yield boards
    for board in boards:
        board.close()


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[logging.FileHandler]:
    """A file that the logger "djserve.rotated" writes to."""
    handler = logging.FileHandler(tmp_path / "log")
    logger = logging.getLogger("djserve.rotated")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    handler.close()


def make_record(status: int) -> RequestRecord:
    head = RequestHead("GET", b"/", b"", [], "1.1")
    return RequestRecord(head, None, "http", status)


def test_no_logs_are_none() -> None:
    assert combine([]) is None


def test_single_log_has_nothing_around_it() -> None:
    log = SlowLog(1)

    assert combine([log]) is log


def test_every_log_hears_of_a_request(boards: list[Board]) -> None:
    log = combine([Meter(board) for board in boards])
    assert log is not None
    log.request_finished(make_record(200))

    assert [board.numbers[Figure.REQUESTS] for board in boards] == [1, 1]


@pytest.mark.parametrize(
    ("events", "open_websockets", "requests"),
    [
        (["connecting"], 0, 0),
        (["connecting", "rejected"], 0, 1),
        (["connecting", "accepted"], 1, 1),
        (["connecting", "accepted", "closed"], 0, 1),
    ],
    ids=["connecting", "rejected", "accepted", "closed"],
)
def test_every_log_hears_of_a_websocket(
    events: list[str], open_websockets: int, requests: int, boards: list[Board]
) -> None:
    log: RequestLog = FanOut([Meter(board) for board in boards])
    for event in events:
        getattr(log, f"websocket_{event}")(make_record(101))

    for board in boards:
        assert board.numbers[Figure.WEBSOCKETS] == open_websockets
        assert board.numbers[Figure.REQUESTS] == requests


def test_rotated_log_goes_on_in_a_new_file(
    log_file: logging.FileHandler, tmp_path: Path
) -> None:
    logger = logging.getLogger("djserve.rotated")
    logger.warning("before")
    (tmp_path / "log").rename(tmp_path / "log.1")
    reopen_log_files()
    logger.warning("after")

    assert (tmp_path / "log.1").read_text() == "before\n"
    assert (tmp_path / "log").read_text() == "after\n"


def test_reopening_without_rotation_loses_nothing(
    log_file: logging.FileHandler, tmp_path: Path
) -> None:
    logger = logging.getLogger("djserve.rotated")
    for text in ("one", "two"):
        logger.warning(text)
        reopen_log_files()

    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_file_that_was_never_opened_waits_for_its_first_record(tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "log", delay=True)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        reopen_log_files()
    finally:
        root.removeHandler(handler)

    assert not (tmp_path / "log").exists()
    handler.close()
