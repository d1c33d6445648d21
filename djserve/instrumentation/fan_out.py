"""Several logs of requests behind one, and the log files that are opened again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from djserve.instrumentation.events import RequestLog, RequestRecord


def combine(logs: Sequence[RequestLog]) -> RequestLog | None:
    """Return one log that tells all of them; None if there are none."""
    if len(logs) < 2:
        return logs[0] if logs else None
    return FanOut(logs)


class FanOut:
    """Tell several logs of each event; a RequestLog."""

    def __init__(self, logs: Sequence[RequestLog]) -> None:
        self._logs = tuple(logs)

    def request_finished(self, record: RequestRecord) -> None:
        for log in self._logs:
            log.request_finished(record)

    def websocket_connecting(self, record: RequestRecord) -> None:
        for log in self._logs:
            log.websocket_connecting(record)

    def websocket_accepted(self, record: RequestRecord) -> None:
        for log in self._logs:
            log.websocket_accepted(record)

    def websocket_rejected(self, record: RequestRecord) -> None:
        for log in self._logs:
            log.websocket_rejected(record)

    def websocket_closed(self, record: RequestRecord) -> None:
        for log in self._logs:
            log.websocket_closed(record)


def reopen_log_files() -> None:
    """Let each file that ``logging`` writes be opened again, after its rotation."""
    for handler in set(_find_file_handlers()):
        handler.acquire()
        try:
            # The next record opens the path again.
            stream, handler.stream = handler.stream, None
            if stream is not None:
                stream.close()
        finally:
            handler.release()


def _find_file_handlers() -> Iterator[logging.FileHandler]:
    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.FileHandler):
                yield handler
