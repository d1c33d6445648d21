from __future__ import annotations

import errno
import io
import logging
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.conf.schema import LoggingConfig
from djserve.errors import ConfigError
from djserve.instrumentation import access_log
from djserve.instrumentation.access_log import (
    BATCH_LIMIT,
    AccessLog,
    LineFile,
    LineLogger,
    format_date,
    format_entry,
    open_access_log,
)
from djserve.instrumentation.events import RequestRecord
from djserve.interfaces import RequestHead
from tests.logs import own_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from djserve.interfaces import Headers

DATE = "10/Oct/2000:13:55:36 -0700"


class Timers:
    """The event loop's call_later: calls that wait until the test runs them."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def call_later(self, delay: float, call: Callable[[], None]) -> None:
        assert 0.1 <= delay <= 1
        self.calls.append(call)

    def run(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


def record(
    path: bytes = b"/",
    query: bytes = b"",
    headers: Headers | None = None,
    method: str = "GET",
    **values: Any,
) -> RequestRecord:
    head = RequestHead(method, path, query, headers or [], "1.1")
    values = {"status": 200, "size": 5, "duration": 0.0125} | values
    return RequestRecord(
        head, values.pop("client", ("192.0.2.1", 5000)), "http", **values
    )


@pytest.fixture
def timers() -> Timers:
    return Timers()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def lines(path: Path, timers: Timers) -> Iterator[LineFile]:
    file = LineFile(str(path), timers.call_later)
    yield file
    file.close()


@pytest.fixture
def access_logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("djserve.access")
    yield logger
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


# The line


def test_entry_has_the_combined_format_and_the_duration() -> None:
    headers = [
        (b"host", b"example.com"),
        (b"user-agent", b"curl/8.0"),
        (b"referer", b"http://example.com/start"),
    ]
    entry = format_entry(record(b"/a", b"b=1", headers), "GET", DATE)

    assert entry == (
        f'192.0.2.1 - - [{DATE}] "GET /a?b=1 HTTP/1.1" 200 5 '
        '"http://example.com/start" "curl/8.0" 0.012500\n'
    )


def test_trace_comes_last() -> None:
    request = record()
    request.trace_id = "0af7"

    assert format_entry(request, "GET", DATE).endswith(" 0.012500 trace=0af7\n")


def test_missing_values_are_dashes() -> None:
    entry = format_entry(record(client=None, status=0, size=0, duration=0), "GET", DATE)

    assert entry == f'- - - [{DATE}] "GET / HTTP/1.1" - - "-" "-" 0.000000\n'


@pytest.mark.parametrize(
    ("version", "name"), [("1.0", "HTTP/1.0"), ("2", "HTTP/2.0"), ('3"', 'HTTP/3\\"')]
)
def test_entry_names_the_protocol(version: str, name: str) -> None:
    request = record()
    request.head.http_version = version

    assert f'"GET / {name}"' in format_entry(request, "GET", DATE)


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


def format_plainly(request: RequestRecord) -> str:
    """Format with empty stores, which nothing is put into."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access_log, "KNOWN_LIMIT", 0)
        for name in ("_known_hosts", "_known_agents", "_known_paths"):
            patch.setattr(access_log, name, {})
        return format_entry(request, "GET", DATE)


@given(st.binary(), st.binary(), st.binary(max_size=400), st.text(max_size=9))
def test_remembered_fields_are_those_that_are_escaped_anew(
    path: bytes, query: bytes, agent: bytes, host: str
) -> None:
    request = record(path, query, [(b"user-agent", agent)], client=(host, 1))

    assert [format_entry(request, "GET", DATE) for _ in range(2)] == [
        format_plainly(request)
    ] * 2


def test_stores_of_fields_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    stores: dict[str, dict[Any, str]] = {
        name: {} for name in ("_known_hosts", "_known_agents", "_known_paths")
    }
    monkeypatch.setattr(access_log, "KNOWN_LIMIT", 10)
    for name, store in stores.items():
        monkeypatch.setattr(access_log, name, store)
    for number in range(30):
        agent = [(b"user-agent", b"%d" % number)]
        client = (str(number), 1)
        format_entry(record(b"/%d" % number, b"", agent, client=client), "GET", DATE)
    format_entry(record(b"/" * 300, b"", [(b"user-agent", b"x" * 300)]), "GET", DATE)

    assert [len(store) for store in stores.values()] == [10, 10, 10]


@pytest.mark.parametrize(
    ("zone", "date"),
    [
        ("UTC0", "01/Jan/2000:00:00:05 +0000"),
        ("EST5", "31/Dec/1999:19:00:05 -0500"),
        ("IST-5:30", "01/Jan/2000:05:30:05 +0530"),
    ],
)
def test_date_is_local_with_its_offset(
    zone: str, date: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert format_date(946684805) == date
    finally:
        monkeypatch.undo()
        time.tzset()


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


# Batches


def test_lines_wait_for_one_write(lines: LineFile, path: Path, timers: Timers) -> None:
    lines.write("one\n")
    lines.write("two\n")
    assert (path.read_text(), len(timers.calls)) == ("", 1)

    timers.run()

    assert (path.read_text(), timers.calls) == ("one\ntwo\n", [])


def test_full_batch_is_written_at_once(lines: LineFile, path: Path) -> None:
    for _ in range(BATCH_LIMIT):
        lines.write("x\n")

    assert path.read_text() == "x\n" * BATCH_LIMIT


def test_next_line_is_scheduled_after_a_flush(lines: LineFile, timers: Timers) -> None:
    lines.write("one\n")
    timers.run()
    lines.write("two\n")

    assert len(timers.calls) == 1


def test_existing_file_is_appended_to(path: Path, timers: Timers) -> None:
    path.write_text("old\n")
    file = LineFile(str(path), timers.call_later)
    file.write("new\n")
    file.close()

    assert path.read_text() == "old\nnew\n"


def test_what_comes_after_close_is_dropped(
    lines: LineFile, path: Path, timers: Timers
) -> None:
    lines.write("one\n")
    lines.close()
    lines.write("two\n")
    timers.run()

    assert path.read_text() == "one\n"


def test_exit_of_the_process_writes_what_waits(path: Path) -> None:
    program = (
        "import sys\n"
        "from djserve.instrumentation.access_log import LineFile\n"
        "LineFile(sys.argv[1], lambda delay, call: None).write('last\\n')\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=300)

    assert path.read_text() == "last\n"


# Rotation


def test_reopen_follows_a_rename(lines: LineFile, path: Path) -> None:
    lines.write("old\n")
    path.rename(path.with_suffix(".1"))
    lines.reopen()
    lines.write("new\n")
    lines.flush()

    assert path.with_suffix(".1").read_text() == "old\n"
    assert path.read_text() == "new\n"


def test_failed_reopen_keeps_the_old_file(
    lines: LineFile, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.rename(path.with_suffix(".1"))
    path.mkdir()
    lines.reopen()
    lines.write("still here\n")
    lines.flush()

    assert path.with_suffix(".1").read_text() == "still here\n"
    assert "cannot be reopened: Is a directory" in caplog.text


# Failures


def test_full_disk_is_reported_once(
    timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    file = LineFile("/dev/full", timers.call_later)
    for _ in range(3):
        file.write("lost\n")
        timers.run()
    file.close()

    assert [r.levelname for r in own_records(caplog)] == ["ERROR"]
    assert os.strerror(errno.ENOSPC) in caplog.text


def test_failure_is_reported_again_after_a_recovery(
    path: Path, timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    path.symlink_to("/dev/full")
    file = LineFile(str(path), timers.call_later)
    for target in ("/dev/full", "/dev/null", "/dev/full"):
        path.unlink()
        path.symlink_to(target)
        file.reopen()
        file.write("line\n")
        file.flush()
    file.close()

    assert len(own_records(caplog)) == 2


def test_close_of_a_lost_descriptor_raises_nothing(path: Path, timers: Timers) -> None:
    file = LineFile(str(path), timers.call_later)
    os.close(file._file.fileno())
    file.close()

    assert file._file.closed


@pytest.fixture
def pipe(tmp_path: Path, timers: Timers) -> Iterator[tuple[LineFile, int]]:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    file = LineFile(str(fifo), timers.call_later)
    os.set_blocking(file._file.fileno(), False)
    yield file, reader
    file.close()


def test_closed_pipe_raises_nothing(
    pipe: tuple[LineFile, int], timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    file, reader = pipe
    os.close(reader)
    file.write("lost\n")
    timers.run()

    assert "cannot be written: Broken pipe" in caplog.text


def test_slow_reader_gets_every_line_later(
    pipe: tuple[LineFile, int], timers: Timers
) -> None:
    file, reader = pipe
    sent = "".join(f"{number:0100d}\n" for number in range(2000))
    file.write(sent)
    got = b""
    while timers.calls:
        timers.run()
        got += os.read(reader, 1 << 20)
    os.close(reader)

    assert got.decode() == sent


def test_stuck_reader_loses_lines_but_never_half_a_line(
    pipe: tuple[LineFile, int], caplog: pytest.LogCaptureFixture
) -> None:
    file, reader = pipe
    for _ in range(4):
        file.write(("x" * 99 + "\n") * 6000)
        file.flush()
    got = b""
    while file._rest:
        got += os.read(reader, 1 << 20)
        file.flush()
    got += os.read(reader, 1 << 20)
    os.close(reader)

    assert set(got.decode().splitlines()) == {"x" * 99}
    assert [r.getMessage().split(": ")[1][:18] for r in own_records(caplog)] == [
        "its reader is too "
    ]
