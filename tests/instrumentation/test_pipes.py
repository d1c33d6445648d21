"""Logs whose reader stops: nothing waits for it for long."""

from __future__ import annotations

import io
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from djserve.instrumentation import pipes
from djserve.instrumentation.pipes import PatientHandler, may_be_full

PIPE_SIZE = 4096
LINE = "x" * 100


class Log:
    """A handler that writes to a pipe, and what is read of it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.handler = PatientHandler()
        self.handler.setStream(os.fdopen(os.dup(self.writer), "w"))

    def say(self, text: str) -> None:
        self.handler.handle(logging.LogRecord("a", 20, "", 1, text, None, None))

    def read(self) -> str:
        pieces = []
        try:
            while data := os.read(self.reader, 65536):
                pieces.append(data)
        except BlockingIOError:
            pass
        return b"".join(pieces).decode()

    def fill(self) -> None:
        """Say lines until some are lost."""
        while not self.handler._lost:
            self.say(LINE)

    def close(self) -> None:
        self.handler.stream.close()
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    monkeypatch.setattr(pipes, "PATIENCE", 0.0)
    log = Log()
    yield log
    log.close()


def test_lines_are_written_while_there_is_room(log: Log) -> None:
    log.say("one")
    log.say("two")

    assert log.read() == "one\ntwo\n"


def test_lines_beyond_it_are_lost_and_counted(log: Log) -> None:
    log.fill()
    log.say(LINE)
    log.say(LINE)
    assert set(log.read().splitlines()) == {LINE}

    log.say("there again")
    log.say("on")
    expected = [
        "3 lines of the log were lost: its reader took nothing",
        "there again",
        "on",
    ]
    assert log.read().splitlines() == expected


def test_line_that_was_cut_is_ended_before_the_next(log: Log) -> None:
    log.fill()
    os.read(log.reader, PIPE_SIZE)
    log.say("y" * 3 * PIPE_SIZE)
    cut = log.read().splitlines()[-1]
    assert set(cut) == {"y"}
    assert len(cut) < 3 * PIPE_SIZE

    log.say("next")
    assert (
        log.read() == "\n1 lines of the log were lost: its reader took nothing\nnext\n"
    )


def test_long_line_is_written_whole_to_a_reader_that_reads(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if each piece were the first in a while.
    monkeypatch.setattr(pipes, "PATIENCE", 60.0)
    monkeypatch.setattr(pipes, "_INTERVAL", 0.0)
    os.set_blocking(log.reader, True)
    seen: list[bytes] = []

    def read() -> None:
        while not (seen and seen[-1].endswith(b"\n")):
            seen.append(os.read(log.reader, 65536))

    thread = threading.Thread(target=read)
    thread.start()
    log.say("é" * 100_000)
    thread.join()

    assert b"".join(seen).decode() == "é" * 100_000 + "\n"


def test_it_waits_once_in_a_while(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(pipes, "PATIENCE", 0.5)

    def look(descriptor: int, seconds: float = 0.0) -> bool:
        if seconds:
            waits.append(seconds)
        return False

    now = 100.0
    monkeypatch.setattr(pipes, "is_writable", look)
    monkeypatch.setattr("djserve.instrumentation.pipes.time.monotonic", lambda: now)
    for _ in range(3):
        log.say(LINE)
    assert waits == [0.5]

    now += 10.0
    log.say(LINE)
    assert waits == [0.5, 0.5]


def test_files_and_what_has_no_descriptor_are_written_to_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipes, "is_writable", None)
    record = logging.LogRecord("a", 20, "", 1, "line", None, None)
    memory = io.StringIO()
    with open(tmp_path / "log", "w+") as file:
        for stream in (memory, file):
            handler = PatientHandler()
            handler.setStream(stream)
            handler.handle(record)
        assert not may_be_full(file.fileno())

    assert memory.getvalue() == (tmp_path / "log").read_text() == "line\n"
