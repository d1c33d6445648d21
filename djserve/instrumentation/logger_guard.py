"""Loggers that outlast what the project has put behind them.

A filter of a handler is called for every line that reaches it, djserve's too, and what
it raises comes out of the call that logs: from where a fault is answered, a timeout
noticed or a connection ended, which would then not be done. The same goes for a
factory of records, and for a handler that does not catch what it raises.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

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

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _passed_over(method: _Method) -> _Method:
    """Have those who look for a line's caller pass over it, as over Python's method.

    Handlers that hand lines on to another package's logger (Loguru) go up the stack to
    the first frame that is not of logging's own file.
    """
    function: Any = method
    own = getattr(getattr(logging.Logger, function.__name__), "__code__", None)
    if own is not None:
        function.__code__ = function.__code__.replace(
            co_filename=own.co_filename, co_firstlineno=own.co_firstlineno
        )
    return method


class GuardedLogger(logging.Logger):
    """Let nothing out that a record meets; a class to be put before a logger's own."""

    @_passed_over
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

    @_passed_over
    def handle(self, record: logging.LogRecord) -> None:
        """Hand a record to the handlers, or to the last resort if one of them fails."""
        try:
            super().handle(record)
        except BaseException as error:
            if _ends_the_process(error) or _is_too_deep(error):
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


def _is_too_deep(error: BaseException) -> bool:
    """Return whether a handler's own lines, written to a guarded logger, have no end.

    The first line's guard ends it: if each did, a handler that writes two lines for
    each line would write 2 ** depth.
    """
    return isinstance(error, RecursionError) and _count_guards(sys._getframe()) > 1


def _count_guards(frame: FrameType | None) -> int:
    count = 0
    while frame is not None:
        count += frame.f_code is _HANDLE
        frame = frame.f_back
    return count


_HANDLE = GuardedLogger.handle.__code__


def _make_plainly(
    name: str,
    level: int,
    fn: str,
    lno: int,
    msg: object,
    args: Any,
    exc_info: Any,
    func: str | None = None,
    extra: object = None,
    sinfo: str | None = None,
) -> logging.LogRecord:
    # The parameters have the names of makeRecord's own: callers may use them.
    return logging.LogRecord(name, level, fn, lno, msg, args, exc_info, func, sinfo)


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
