"""Loggers that outlast what the project has put behind them.

A filter of a handler is called for every line that reaches it, djserve's too, and what
it raises comes out of the call that logs: from where a fault is answered, a timeout
noticed or a connection ended, which would then not be done. The same goes for a
factory of records, and for a handler that does not catch what it raises.
"""

from __future__ import annotations

import logging
from typing import Any

from djserve.system import is_real_interrupt

NAMES = (
    "djserve",
    "djserve.access",
    "djserve.acme",
    "djserve.development",
    "djserve.error",
    "djserve.handlers",
    "djserve.metrics",
    "djserve.net",
    "djserve.processes",
    "djserve.server",
    "djserve.slow",
    "djserve.twisted",
    # An event loop ends if its own logger raises.
    "asyncio",
)


class GuardedLogger(logging.Logger):
    """Let nothing out that a record meets; a class to be put before a logger's own."""

    def makeRecord(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        """Make a record, by Python's own class if the project's factory fails."""
        try:
            return super().makeRecord(*args, **kwargs)
        except BaseException as error:
            if _ends_the_process(error):
                raise
            record = _make_plainly(*args, **kwargs)
            _report(record)
            return record

    def handle(self, record: logging.LogRecord) -> None:
        """Hand a record to the handlers, or to the last resort if one of them fails."""
        try:
            super().handle(record)
        except BaseException as error:
            if _ends_the_process(error):
                raise
            _write_at_last(record)
            _report(record)


def guard_loggers() -> None:
    """Guard djserve's loggers and the event loops'; calling it again does nothing."""
    for name in NAMES:
        logger = logging.getLogger(name)
        kind = type(logger)
        if not issubclass(kind, GuardedLogger):
            # Packages have logger classes of their own, set by setLoggerClass().
            logger.__class__ = _guarded(kind)


def _guarded(kind: type[logging.Logger]) -> type[logging.Logger]:
    if kind is logging.Logger:
        return GuardedLogger
    return type(f"Guarded{kind.__name__}", (GuardedLogger, kind), {})


def _ends_the_process(error: BaseException) -> bool:
    return isinstance(error, KeyboardInterrupt) and is_real_interrupt()


def _make_plainly(
    name: str,
    level: int,
    path: str,
    line: int,
    message: object,
    args: Any,
    exc_info: Any,
    function: str | None = None,
    extra: object = None,
    sinfo: str | None = None,
) -> logging.LogRecord:
    return logging.LogRecord(
        name, level, path, line, message, args, exc_info, function, sinfo
    )


def _write_at_last(record: logging.LogRecord) -> None:
    """Write a line to standard error: it may be the one that tells of a fault."""
    last = logging.lastResort
    try:
        if last is not None and record.levelno >= last.level:
            last.handle(record)
    except Exception:
        # Its own words are what fails; the report has the rest.
        return


def _report(record: logging.LogRecord) -> None:
    """Print the exception that is being handled, as a handler of Python's does."""
    try:
        logging.Handler().handleError(record)
    except Exception:
        # Standard error has gone, too.
        return
