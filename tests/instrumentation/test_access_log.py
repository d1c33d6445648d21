from __future__ import annotations

import io
import logging
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.conf.schema import LoggingConfig
from djserve.errors import ConfigError
from djserve.instrumentation.access_file import (
    BATCH_LIMIT,
    PART_SIZE_LIMIT,
    LineFile,
    LineLogger,
)
from djserve.instrumentation.access_line import format_date
from djserve.instrumentation.access_log import AccessLog, open_access_log
from djserve.instrumentation.events import RequestRecord
from djserve.interfaces import Repetition
from tests.instrumentation.records import record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.instrumentation.conftest import Timers


@pytest.fixture
def access_logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("djserve.access")
    yield logger
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


# Requests and WebSockets


HOSTILE = b'x" 200 1\r\n1.1.1.1 - - [\x1b[2J\x00\xff\\'
SHOWN = 'x\\" 200 1\\x0d\\x0a1.1.1.1 - - [\\x1b[2J\\x00\\xff\\\\'


@pytest.mark.parametrize(
    ("values", "field"),
    [
        pytest.param({"path": HOSTILE}, f'"GET {SHOWN} HTTP/1.1"', id="path"),
        pytest.param({"query": HOSTILE}, f'"GET /?{SHOWN} HTTP/1.1"', id="query"),
        pytest.param(
            {"headers": [(b"user-agent", HOSTILE)]}, f'"{SHOWN}" 0', id="agent"
        ),
        pytest.param(
            {"headers": [(b"referer", HOSTILE)]}, f' "{SHOWN}" "-"', id="referer"
        ),
        pytest.param({"client": ("a\nb", 1)}, "a\\x0ab - - [", id="client"),
        pytest.param({"method": "GE\nT"}, '"GE\\x0aT / HTTP/1.1"', id="method"),
    ],
)
def test_peer_cannot_break_out_of_its_field(
    values: dict[str, Any], field: str, lines: LineFile, path: Path
) -> None:
    log = AccessLog(lines)
    log.request_finished(record(**values))
    log.flush()

    assert field in path.read_text()
    assert path.read_text().count("\n") == 1


class PendingLines(LineFile):
    """A file that its lines never reach."""

    def __init__(self) -> None:
        super().__init__(os.devnull, lambda delay, call: None)

    def flush(self) -> None:
        """Leave in ``pending`` what waits."""


def write_both_ways(request: RequestRecord, started: float) -> list[str]:
    """Return the line of a record, and the one that is written without."""
    ended = started + request.duration
    request.duration = ended - started
    file = PendingLines()
    log = AccessLog(file, clock=lambda: 1.5, timer=lambda: ended)
    log.request_finished(request)
    scope = {"client": request.client}
    log.http_finished(request.head, scope, started, request.status, request.size)
    file.close()
    return b"".join(file.pending).decode("ascii").splitlines(keepends=True)


@given(
    path=st.binary(),
    query=st.binary(),
    headers=st.lists(
        st.tuples(st.sampled_from([b"user-agent", b"referer", b"accept"]), st.binary()),
        max_size=4,
    ),
    method=st.text(max_size=9),
    client=st.none() | st.tuples(st.text(max_size=9), st.integers(0, 65535)),
    status=st.integers(0, 999),
    size=st.integers(0),
    duration=st.floats(0, 0.004) | st.floats(0, 1e6),
    started=st.floats(0, 1e6),
)
def test_line_without_a_record_is_that_of_the_record(
    started: float, **values: Any
) -> None:
    plain, quick = write_both_ways(record(**values), started)

    assert quick == plain


def test_line_without_a_record_follows_the_clock(lines: LineFile, path: Path) -> None:
    clock = iter([100.25, 101.0, 90.5])
    timer = iter([7.0, 7.74, 7.75, 8.7, 8.8])
    log = AccessLog(lines, clock=lambda: next(clock), timer=lambda: next(timer))
    for _ in range(5):
        log.http_finished(record().head, {"client": None}, 7.0, 200, 5)
    log.flush()

    dates = re.findall(r"\[(.*?)\]", path.read_text())
    assert dates == [format_date(second) for second in (100, 100, 101, 101, 90)]


def test_both_ways_share_the_date(lines: LineFile, path: Path) -> None:
    clock = iter([100.0, 101.0])
    log = AccessLog(lines, clock=lambda: next(clock), timer=lambda: 7.0)
    request = record()
    log.http_finished(request.head, {"client": request.client}, 7.0, 200, 5)
    log.request_finished(request)
    log.http_finished(request.head, {"client": request.client}, 7.0, 200, 5)
    log.flush()

    dates = re.findall(r"\[(.*?)\]", path.read_text())
    assert dates == [format_date(second) for second in (100, 101, 101)]


def test_lines_without_records_are_written_as_the_others(
    lines: LineFile, path: Path, timers: Timers
) -> None:
    log, request = AccessLog(lines), record()
    count = 0
    while not path.read_text():
        assert len(lines.pending) < BATCH_LIMIT
        log.http_finished(request.head, {"client": None}, 0.0, 200, 5)
        count += 1
    assert path.read_text().count("\n") == count == BATCH_LIMIT // 2

    log.http_finished(request.head, {"client": None}, 0.0, 200, 5)
    timers.run()
    assert path.read_text().count("\n") == count + 1


def test_what_was_made_of_a_head_is_kept_for_those_that_repeat_it(
    lines: LineFile, path: Path
) -> None:
    clock = iter([100.0, 101.0])
    log = AccessLog(lines, clock=lambda: next(clock), timer=lambda: timer)
    again = record(b"/again")
    repetition = again.head.repetition = Repetition()
    scope = {"client": ("192.0.2.1", 5000)}
    timer = 7.0
    log.http_finished(again.head, scope, 6.5, 200, 5)
    made = repetition.described[-1]
    log.http_finished(again.head, scope, 6.0, 200, 5)
    assert repetition.described[-1] is made
    log.http_finished(again.head, scope, 7.0, 404, 5)
    log.http_finished(again.head, scope, 7.0, 404, 6)
    timer = 8.0
    log.http_finished(again.head, scope, 8.0, 404, 6)
    log.flush()

    date, later = format_date(100), format_date(101)
    begin = '"GET /again HTTP/1.1"'
    assert path.read_text().splitlines() == [
        f'192.0.2.1 - - [{date}] {begin} 200 5 "-" "-" 0.500000',
        f'192.0.2.1 - - [{date}] {begin} 200 5 "-" "-" 1.000000',
        f'192.0.2.1 - - [{date}] {begin} 404 5 "-" "-" 0.000000',
        f'192.0.2.1 - - [{date}] {begin} 404 6 "-" "-" 0.000000',
        f'192.0.2.1 - - [{later}] {begin} 404 6 "-" "-" 0.000000',
    ]


def test_long_line_is_not_kept_for_those_that_repeat_its_head(lines: LineFile) -> None:
    log, again = AccessLog(lines), record(b"/" + bytes(300))
    repetition = again.head.repetition = Repetition()
    for _ in range(2):
        log.http_finished(again.head, {"client": None}, 0.0, 200, 5)
        assert repetition.described == ("", 0, 0, b"")
    log.flush()


def test_long_line_without_a_record_does_not_wait_with_others(
    lines: LineFile, path: Path
) -> None:
    log, scope = AccessLog(lines), {"client": None}
    long = record(b"/" + b"x" * PART_SIZE_LIMIT)
    for count, request in enumerate([record(), long, long, record()]):
        assert path.read_text().count("\n") == max(0, count - 1)
        log.http_finished(request.head, scope, 0.0, 200, 5)
    log.flush()

    assert path.read_text().count("\n") == 4


def test_logger_gets_lines_without_records_at_once(
    access_logger: logging.Logger,
) -> None:
    stream = io.StringIO()
    access_logger.addHandler(logging.StreamHandler(stream))
    access_logger.setLevel(logging.INFO)
    log = AccessLog(LineLogger(access_logger))
    for count in (1, 2):
        log.http_finished(record(b"/100%s").head, {"client": None}, 0.0, 200, 5)
        assert stream.getvalue().count('"GET /100%s HTTP/1.1" 200 5') == count


@pytest.mark.parametrize(
    ("line_format", "is_combined"), [("combined", True), ("common", False)]
)
def test_only_the_combined_format_is_written_without_a_record(
    line_format: str, is_combined: bool, timers: Timers
) -> None:
    config = LoggingConfig(access_log=os.devnull, access_log_format=line_format)
    log = open_access_log(config, timers.call_later)
    assert log is not None
    log.close()

    assert log.is_combined is is_combined


def test_date_follows_the_clock(lines: LineFile, path: Path) -> None:
    times = iter([100.0, 100.9, 101.0])
    log = AccessLog(lines, clock=lambda: next(times))
    for _ in range(3):
        log.request_finished(record())
    log.flush()

    dates = re.findall(r"\[(.*?)\]", path.read_text())
    assert dates == [format_date(100), format_date(100), format_date(101)]


@pytest.mark.parametrize(
    ("event", "request_line"),
    [
        ("websocket_connecting", '"WSCONNECTING /ws/ HTTP/1.1" - -'),
        ("websocket_accepted", '"WSCONNECT /ws/ HTTP/1.1" 101 -'),
        ("websocket_rejected", '"WSREJECT /ws/ HTTP/1.1" 403 -'),
        ("websocket_closed", '"WSDISCONNECT /ws/ HTTP/1.1" 1000 -'),
    ],
)
def test_each_step_of_a_websocket_has_a_line(
    event: str, request_line: str, lines: LineFile, path: Path
) -> None:
    status = request_line.split()[-2]
    log = AccessLog(lines)
    getattr(log, event)(record(b"/ws/", size=0, status=int(status.replace("-", "0"))))
    log.flush()

    assert request_line in path.read_text()


def test_request_without_a_method_has_a_dash(lines: LineFile, path: Path) -> None:
    log = AccessLog(lines)
    log.request_finished(record(b"", method="", status=400))
    log.flush()

    assert '"-  HTTP/1.1" 400' in path.read_text()


# Where it goes


def test_no_access_log_is_made_when_none_is_configured(timers: Timers) -> None:
    assert open_access_log(LoggingConfig(), timers.call_later) is None


def test_file_gets_the_lines(path: Path, timers: Timers) -> None:
    log = open_access_log(LoggingConfig(access_log=str(path)), timers.call_later)
    assert log is not None
    log.request_finished(record())
    log.close()

    assert path.read_text().startswith("192.0.2.1 - - [")


def test_dash_is_standard_output_and_closing_leaves_it_open(
    timers: Timers, capfd: pytest.CaptureFixture[str]
) -> None:
    log = open_access_log(LoggingConfig(access_log="-"), timers.call_later)
    assert log is not None
    log.request_finished(record())
    log.close()
    os.write(1, b"still open\n")

    assert capfd.readouterr().out.endswith(" 0.012500\nstill open\n")


def test_logger_with_a_handler_gets_the_lines(
    timers: Timers, access_logger: logging.Logger
) -> None:
    stream = io.StringIO()
    access_logger.addHandler(logging.StreamHandler(stream))
    access_logger.setLevel(logging.INFO)
    log = open_access_log(LoggingConfig(), timers.call_later)
    assert log is not None
    log.request_finished(record(b"/100%s"))

    assert '"GET /100%s HTTP/1.1" 200 5' in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


def test_logger_above_level_info_gets_nothing(
    timers: Timers, access_logger: logging.Logger
) -> None:
    access_logger.addHandler(logging.NullHandler())
    access_logger.setLevel(logging.WARNING)

    assert open_access_log(LoggingConfig(), timers.call_later) is None


def test_logger_needs_no_flush_and_survives_reopen(
    access_logger: logging.Logger,
) -> None:
    stream = io.StringIO()
    access_logger.addHandler(logging.StreamHandler(stream))
    access_logger.setLevel(logging.INFO)
    log = AccessLog(LineLogger(access_logger))
    for step in (log.flush, log.reopen, log.close):
        step()
        log.request_finished(record())

    assert stream.getvalue().count("\n") == 3


def test_file_that_cannot_be_opened_refuses_the_start(
    tmp_path: Path, timers: Timers
) -> None:
    config = LoggingConfig(access_log=str(tmp_path / "missing" / "access.log"))

    with pytest.raises(ConfigError, match=r"cannot be opened: No such file"):
        open_access_log(config, timers.call_later)


@pytest.mark.parametrize("line_format", ["combined", "common", "%U"])
def test_paths_are_left_out(line_format: str, path: Path, timers: Timers) -> None:
    config = LoggingConfig(
        access_log=str(path),
        access_log_format=line_format,
        access_log_skip=("/healthz", "/static/*", "/caf\xe9"),
    )
    log = open_access_log(config, timers.call_later)
    assert log is not None
    left_out = [b"/healthz", b"/static/", b"/static/a.css", b"/caf%C3%A9"]
    kept = [b"/", b"/healthz/", b"/HEALTHZ", b"/%68ealthz", b"/static", b"/a/static/"]
    for target in (*left_out, *kept):
        request = record(target)
        if log.is_combined:
            log.http_finished(request.head, {"client": None}, 0.0, 200, 5)
        else:
            log.request_finished(request)
        log.websocket_accepted(request)
    log.close()

    text = path.read_text()
    assert text.count("\n") == 2 * len(kept)
    assert all(text.count(target.decode()) >= 2 for target in kept)


def test_log_without_paths_to_leave_out_compares_none(timers: Timers) -> None:
    log = open_access_log(LoggingConfig(access_log=os.devnull), timers.call_later)
    assert log is not None
    log.close()

    assert type(log) is AccessLog
