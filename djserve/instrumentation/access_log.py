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
METHODS = {
    name: name
    for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
}
VERSIONS = {"1.1": "HTTP/1.1", "2": "HTTP/2.0", "1.0": "HTTP/1.0"}

# Addresses and user agents, and paths, escaped: each comes in many lines (benchmark:
# access_log_cost). Ever new ones fill a store once; then they are as slow as before.
KNOWN_LIMIT = 1024
KNOWN_SIZE_LIMIT = 256
_known_hosts: dict[str, str] = {}
_known_agents: dict[bytes, str] = {}
_known_paths: dict[bytes, str] = {}

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
        # As _write_entry, with one call less.
        second = int(self._clock())
        if second != self._second:
            self._turn_to(second)
        method = record.head.method
        method = METHODS.get(method) or escape(method) or "-"
        self._write(self._format(record, method, self._date))

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
            self._turn_to(second)
        self._write(self._format(record, method, self._date))

    def _turn_to(self, second: int) -> None:
        self._second = second
        self._date = format_date(second)


def format_entry(record: RequestRecord, method: str, date: str) -> str:
    """Return a record's line: the combined log format, then the seconds it took.

    Where tracing is on, the trace comes last. This is written out in one piece, since
    each call on the way costs a hundredth of a request (benchmark: access_log_cost).
    """
    head, client = record.head, record.client
    host = "-"
    if client is not None:
        host = _known_hosts.get(client[0]) or _escape_host(client[0])
    version = VERSIONS.get(head.http_version) or f"HTTP/{escape(head.http_version)}"
    path = head.raw_path
    target = _known_paths.get(path) or _escape_known(path, _known_paths)
    if head.query:
        target = request_target(head)
    referer = agent = "-"
    for name, value in head.headers:
        if name == b"user-agent":
            agent = _known_agents.get(value) or _escape_agent(value)
        elif name == b"referer":
            referer = escape(value.decode("latin-1")) or "-"
    line = (
        f'{host} - - [{date}] "{method} {target} {version}" {record.status or "-"} '
        f'{record.size or "-"} "{referer}" "{agent}" {record.duration:.6f}'
    )
    return f"{line} trace={record.trace_id}\n" if record.trace_id else line + "\n"


def format_common(record: RequestRecord, method: str, date: str) -> str:
    """Return a record's line in the common log format."""
    head = record.head
    host = escape(record.client[0]) if record.client is not None else "-"
    version = VERSIONS.get(head.http_version) or f"HTTP/{escape(head.http_version)}"
    return (
        f'{host} - - [{date}] "{method} {request_target(head)} {version}" '
        f"{record.status or '-'} {record.size or '-'}\n"
    )


def _escape_host(host: str) -> str:
    text = escape(host)
    if len(_known_hosts) < KNOWN_LIMIT:
        _known_hosts[host] = text
    return text


def _escape_agent(value: bytes) -> str:
    return _escape_known(value, _known_agents) or "-"


def _escape_known(value: bytes, known: dict[bytes, str]) -> str:
    """Escape what many requests have in common, and remember some of it."""
    text = escape(value.decode("latin-1"))
    if len(known) < KNOWN_LIMIT and len(value) <= KNOWN_SIZE_LIMIT:
        known[value] = text
    return text


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
