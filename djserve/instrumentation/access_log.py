"""The access log: a line in the combined log format for each request.

Lines go to a file or standard output in batches, or to the logger "djserve.access".
"""

from __future__ import annotations

import atexit
import logging
import time
from typing import IO, TYPE_CHECKING, Any

from djserve.errors import ConfigError
from djserve.instrumentation.events import escape, request_target
from djserve.instrumentation.json_lines import format_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.conf.schema import LoggingConfig
    from djserve.instrumentation.events import RequestRecord
    from djserve.interfaces import Headers

    CallLater = Callable[[float, Callable[[], None]], Any]
    LineFormat = Callable[[RequestRecord, str, str], str]

STDOUT = 1

FLUSH_INTERVAL = 0.1
BATCH_LIMIT = 256
# Lines kept for a reader that is too slow; more are dropped and counted.
BACKLOG_LIMIT = 1024 * 1024

# NCSA's names, whatever the locale says.
MONTHS = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)
VERSIONS = {"1.1": "HTTP/1.1", "2": "HTTP/2.0", "1.0": "HTTP/1.0"}

error_logger = logging.getLogger("djserve.error")
access_logger = logging.getLogger("djserve.access")


def open_access_log(config: LoggingConfig, call_later: CallLater) -> AccessLog | None:
    """Return the configured access log, or None where nobody wants one.

    A file or "-" in the settings comes first; else the logger "djserve.access" is used
    if it has a handler of its own. ``call_later`` is the event loop's or the reactor's.
    Raises ConfigError where the file cannot be opened.
    """
    line_format = FORMATS["json" if config.log_json else config.access_log_format]
    if config.access_log is not None:
        return AccessLog(LineFile(config.access_log, call_later), line_format)
    if access_logger.handlers and access_logger.isEnabledFor(logging.INFO):
        return AccessLog(LineLogger(access_logger), line_format)
    return None


class AccessLog:
    """Write requests and the steps of WebSockets as lines; a RequestLog."""

    def __init__(
        self,
        sink: LineFile | LineLogger,
        line_format: LineFormat | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sink = sink
        self._format = line_format or format_entry
        self._write = sink.write
        self._clock = clock
        self._second = -1
        self._date = ""

    def request_finished(self, record: RequestRecord) -> None:
        self._write_entry(record, escape(record.head.method) or "-")

    def websocket_connecting(self, record: RequestRecord) -> None:
        self._write_entry(record, "WSCONNECTING")

    def websocket_accepted(self, record: RequestRecord) -> None:
        self._write_entry(record, "WSCONNECT")

    def websocket_rejected(self, record: RequestRecord) -> None:
        self._write_entry(record, "WSREJECT")

    def websocket_closed(self, record: RequestRecord) -> None:
        self._write_entry(record, "WSDISCONNECT")

    def flush(self) -> None:
        """Write out what waits."""
        self._sink.flush()

    def reopen(self) -> None:
        """Open the file anew, after it was renamed for rotation."""
        self._sink.reopen()

    def close(self) -> None:
        """Write out what waits and close the file; the log takes nothing more."""
        self._sink.close()

    def _write_entry(self, record: RequestRecord, method: str) -> None:
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._date = format_date(second)
        self._write(self._format(record, method, self._date))


def format_entry(record: RequestRecord, method: str, date: str) -> str:
    """Return a record's line: the combined log format, then the seconds it took.

    Where tracing is on, the trace comes last.
    """
    referer, agent = _find_fields(record.head.headers)
    line = _format_common(record, method, date)
    trace = f" trace={record.trace_id}" if record.trace_id else ""
    return f'{line} "{referer}" "{agent}" {record.duration:.6f}{trace}\n'


def format_common(record: RequestRecord, method: str, date: str) -> str:
    """Return a record's line in the common log format."""
    return _format_common(record, method, date) + "\n"


def _format_common(record: RequestRecord, method: str, date: str) -> str:
    head = record.head
    host = record.client[0] if record.client is not None else "-"
    version = VERSIONS.get(head.http_version) or f"HTTP/{escape(head.http_version)}"
    return (
        f'{escape(host)} - - [{date}] "{method} {request_target(head)} {version}" '
        f"{record.status or '-'} {record.size or '-'}"
    )


FORMATS: dict[str, LineFormat] = {
    "common": format_common,
    "combined": format_entry,
    "json": format_json,
}


def format_date(second: int) -> str:
    """Return a time as in ``10/Oct/2000:13:55:36 -0700``, in the local zone."""
    local = time.localtime(second)
    sign = "-" if local.tm_gmtoff < 0 else "+"
    hours, minutes = divmod(abs(local.tm_gmtoff) // 60, 60)
    month = MONTHS[local.tm_mon - 1]
    day = f"{local.tm_mday:02d}/{month}/{local.tm_year}"
    clock = f"{local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}"
    return f"{day}:{clock} {sign}{hours:02d}{minutes:02d}"


class LineLogger:
    """Lines to a logger, at level INFO."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def write(self, line: str) -> None:
        self._logger.info(line[:-1])

    def flush(self) -> None:
        """Do nothing: a logger's handlers flush."""

    reopen = close = flush


class LineFile:
    """Lines to a file or standard output, in one write for many.

    A line is on its way after FLUSH_INTERVAL seconds, after BATCH_LIMIT lines, or when
    the process exits, whichever is first. A write that fails is reported once until
    one succeeds again; its lines are lost and nothing is raised.
    """

    def __init__(self, path: str, call_later: CallLater) -> None:
        self._path = path
        self._call_later = call_later
        self._lines: list[str] = []
        self._rest = b""
        self._is_scheduled = False
        self._is_failing = False
        try:
            self._file = _open(path)
        except OSError as exc:
            problem = f"Access log {path!r}: cannot be opened: {exc.strerror}."
            raise ConfigError([problem]) from exc
        atexit.register(self.flush)

    def write(self, line: str) -> None:
        self._lines.append(line)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._call_later(FLUSH_INTERVAL, self._flush_in_time)
        elif len(self._lines) >= BATCH_LIMIT:
            self.flush()

    def flush(self) -> None:
        """Write out what waits, as far as the file takes it without blocking."""
        if self._file.closed:
            self._lines.clear()
            return
        data = self._rest + "".join(self._lines).encode("ascii", "replace")
        self._lines.clear()
        try:
            self._rest = _write_all(self._file, data) if data else b""
        except OSError as exc:
            self._rest = b""
            self._report_failure(f"cannot be written: {exc.strerror}")
            return
        if len(self._rest) > BACKLOG_LIMIT:
            # Cut at a line's end, so that what follows is whole lines.
            self._rest = self._rest[: self._rest.index(b"\n") + 1]
            self._report_failure("its reader is too slow")
        elif data and not self._rest:
            self._is_failing = False

    def reopen(self) -> None:
        """Open the path anew; the old file stays in use where that fails."""
        self.flush()
        try:
            new_file = _open(self._path)
        except OSError as exc:
            self._report_failure(f"cannot be reopened: {exc.strerror}")
            return
        _close(self._file)
        self._file = new_file

    def close(self) -> None:
        """Write out what waits and close the file."""
        self.flush()
        _close(self._file)
        atexit.unregister(self.flush)

    def _flush_in_time(self) -> None:
        self._is_scheduled = False
        self.flush()
        if self._rest and not self._file.closed:
            self._is_scheduled = True
            self._call_later(FLUSH_INTERVAL, self._flush_in_time)

    def _report_failure(self, reason: str) -> None:
        if not self._is_failing:
            self._is_failing = True
            error_logger.error(
                "Access log %s: %s; lines are lost until it recovers",
                self._path,
                reason,
            )


def _open(path: str) -> IO[bytes]:
    if path != "-":
        return open(path, "ab", buffering=0)
    # Our own file object on the descriptor: closing it leaves standard output open.
    return open(STDOUT, "wb", buffering=0, closefd=False)


def _close(file: IO[bytes]) -> None:
    try:
        file.close()
    except OSError:
        # Nothing of ours is buffered in it, and the descriptor is gone either way.
        pass


def _write_all(file: IO[bytes], data: bytes) -> bytes:
    """Write what the file takes and return the rest; raises OSError."""
    view = memoryview(data)
    while view:
        # None: a non-blocking pipe is full (io.RawIOBase.write).
        written: int | None = file.write(view)
        if not written:
            break
        view = view[written:]
    return bytes(view)


def _find_fields(headers: Headers) -> tuple[str, str]:
    referer = agent = "-"
    for name, value in headers:
        if name == b"user-agent":
            agent = escape(value.decode("latin-1")) or "-"
        elif name == b"referer":
            referer = escape(value.decode("latin-1")) or "-"
    return referer, agent
