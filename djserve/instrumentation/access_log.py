"""The access log: a line for each request and for each step of a WebSocket.

``access_line`` decides what a line looks like, ``access_file`` where it goes.
"""

# What a line costs, and what is kept for the next one
#
# Where it is on, it costs every request (benchmark: access_log_cost). Formatting was
# most of it, and nearly all of a line repeats: the date within a second, client and
# request line and fields of a request that is asked for again, its status and size as
# well. So a line is two parts, what repeats and the duration, which are appended to a
# list and joined when the file is written.
#
# The first part is kept with the request's head (``Repetition``), which is the same
# object for requests of the same bytes on a connection. It depends on three things that
# the head does not have: the date, which is compared by identity, as the string is made
# once a second; the status; and the size. If one differs the part is made again, so
# that nothing has to be told when it becomes wrong.
#
# The clock is read once a second. Between, the timer that measures durations says
# whether the second is over: the time of a request's end is needed for its duration in
# any case. A clock that is set is followed with the next second.

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from djserve.instrumentation.access_file import (
    BATCH_LIMIT,
    PART_SIZE_LIMIT,
    LineFile,
    LineLogger,
)
from djserve.instrumentation.access_format import compile_format
from djserve.instrumentation.access_line import (
    DURATIONS_LIMIT,
    FIELDS_SIZE_LIMIT,
    FORMATS,
    METHODS,
    describe,
    encode,
    end_with_duration,
    find_fields,
    format_date,
    format_entry,
    list_durations,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from djserve.conf.schema import LoggingConfig
    from djserve.instrumentation.access_file import CallLater
    from djserve.instrumentation.access_line import LineFormat
    from djserve.instrumentation.events import RequestRecord
    from djserve.interfaces import RequestHead

access_logger = logging.getLogger("djserve.access")

# What may stand in a path as it is (RFC 3986 section 3.3), and what is encoded already.
_UNCHANGED = "/%:@!$&'()*+,;=~"


def open_access_log(config: LoggingConfig, call_later: CallLater) -> AccessLog | None:
    """Return the configured access log, or None if none is wanted.

    A file or "-" in the settings comes first; else the logger "djserve.access" is used
    if it has its own handler. ``call_later`` is the event loop's or the reactor's.
    Raises ConfigError if the file cannot be opened.
    """
    line_format = _choose_format(config)
    sink: LineFile | LineLogger
    if config.access_log is not None:
        sink = LineFile(config.access_log, call_later)
    elif access_logger.handlers and access_logger.isEnabledFor(logging.INFO):
        sink = LineLogger(access_logger)
    else:
        return None
    if config.access_log_skip:
        return SelectiveLog(sink, line_format, config.access_log_skip)
    return AccessLog(sink, line_format)


def _choose_format(config: LoggingConfig) -> LineFormat:
    name = "json" if config.log_json else config.access_log_format
    return FORMATS.get(name) or compile_format(name)


class AccessLog:
    """Write requests and the steps of WebSockets as lines; a RequestLog."""

    def __init__(
        self,
        sink: LineFile | LineLogger,
        line_format: LineFormat = format_entry,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._sink = sink
        self._format = line_format
        self._write = sink.write
        self._pending = sink.pending
        self._see_to_pending = sink.see_to_pending
        self._durations = list_durations()
        self._clock = clock
        self._timer = timer
        self._second = -1
        self._date = ""
        # By the timer.
        self._second_ends = float("-inf")

    @property
    def is_combined(self) -> bool:
        """Whether ``http_finished`` may be called: it knows the combined format."""
        return self._format is format_entry

    def http_finished(
        self,
        head: RequestHead,
        scope: Mapping[str, Any],
        started: float,
        status: int,
        size: int,
    ) -> None:
        """Write what ``request_finished`` does, without a record; not traced.

        ``started`` is the timer's. Every call and every object on the way costs each
        request, so the line is put together here, of as few parts as can be, and these
        are joined for the write (benchmark: access_log_cost).
        """
        now = self._timer()
        if now >= self._second_ends:
            self._follow_clock(now)
        date, repetition = self._date, head.repetition
        if repetition is None:
            text = self._describe(head, scope, status, size)
        else:
            # Whoever asks for the same again mostly gets the same again.
            known_date, known_status, known_size, text = repetition.described
            if known_date is not date or known_status != status or known_size != size:
                text = self._describe(head, scope, status, size)
                if len(text) <= FIELDS_SIZE_LIMIT:
                    repetition.described = (date, status, size, text)
        # int() would take ten times as long.
        duration = ((now - started) * 1e6 + 0.5).__trunc__()
        pending = self._pending
        pending.append(text)
        if duration < DURATIONS_LIMIT:
            pending.append(self._durations[duration])
        else:
            pending.append(end_with_duration(duration))
        count = len(pending)
        # Two parts: the first line that waits, whose write is to be scheduled.
        if count == 2 or count >= BATCH_LIMIT:
            self._see_to_pending()

    def request_finished(self, record: RequestRecord) -> None:
        self._write_entry(record, METHODS[record.head.method])

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
        """Open the file again, after it was renamed for rotation."""
        self._sink.reopen()

    def close(self) -> None:
        """Write out what waits and close the file; the log takes nothing more."""
        self._sink.close()

    def _describe(
        self, head: RequestHead, scope: Mapping[str, Any], status: int, size: int
    ) -> bytes:
        """Return a line up to its time; what waits is written before a long one."""
        client, method = scope["client"], METHODS[head.method]
        host = client and client[0]
        line = describe(host, self._date, method, head, status, size)
        text = encode(line + find_fields(head))
        if len(text) > PART_SIZE_LIMIT:
            self._sink.flush()
        return text

    def _write_entry(self, record: RequestRecord, method: str) -> None:
        second = int(self._clock())
        if second != self._second:
            self._turn_to(second)
        self._write(self._format(record, method, self._date))

    def _follow_clock(self, now: float) -> None:
        """Turn to the clock's second, and note when the timer reaches the next one.

        A step of the clock is seen then, at most a second late.
        """
        instant = self._clock()
        self._second_ends = now + 1 - instant % 1
        self._turn_to(int(instant))

    def _turn_to(self, second: int) -> None:
        self._second = second
        self._date = format_date(second)


class SelectiveLog(AccessLog):
    """The access log without the requests for some paths: health checks, icons.

    A path is taken as it was sent, before any decoding, so that no spelling of another
    one is left out.
    """

    def __init__(
        self, sink: LineFile | LineLogger, line_format: LineFormat, skip: Sequence[str]
    ) -> None:
        super().__init__(sink, line_format)
        encoded = [quote(path, _UNCHANGED).encode("ascii") for path in skip]
        self._paths = {path for path in encoded if not path.endswith(b"*")}
        self._prefixes = tuple(path[:-1] for path in encoded if path.endswith(b"*"))

    def http_finished(
        self,
        head: RequestHead,
        scope: Mapping[str, Any],
        started: float,
        status: int,
        size: int,
    ) -> None:
        if not self._skips(head.raw_path):
            super().http_finished(head, scope, started, status, size)

    def _write_entry(self, record: RequestRecord, method: str) -> None:
        if not self._skips(record.head.raw_path):
            super()._write_entry(record, method)

    def _skips(self, raw_path: bytes) -> bool:
        return raw_path in self._paths or raw_path.startswith(self._prefixes)
