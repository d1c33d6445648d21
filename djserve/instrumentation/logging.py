"""The loggers that djserve uses, and their set-up with and without Django.

- ``djserve``: start, stop and what concerns the whole server
- ``djserve.error``: exceptions of the application, and failures of the server
- ``djserve.access``: the access log, if it goes through logging
- ``djserve.slow``: requests that took longer than SLOW_REQUEST_TIME
- ``djserve.development``: a line for each request under ``runserver``
- ``djserve.twisted``: what Twisted reports, unhandled failures above all
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from djserve.instrumentation.json_lines import JSONFormatter
from djserve.instrumentation.logger_guard import guard_loggers
from djserve.instrumentation.pipes import PatientHandler
from djserve.instrumentation.request_id import RequestIDFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from djserve.conf.schema import LoggingConfig

    TwistedEvent = Mapping[str, Any]

# Verbosity to the levels of djserve's loggers and of all others.
LEVELS = {
    0: (logging.WARNING, logging.WARNING),
    1: (logging.INFO, logging.INFO),
    2: (logging.DEBUG, logging.INFO),
    3: (logging.DEBUG, logging.DEBUG),
}

# Twisted tells of each factory and port at "info": that is our debugging.
TWISTED_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.DEBUG,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

_redirected: WeakSet[Any] = WeakSet()


class TwistedLogger(Protocol):
    """The module ``twisted.logger``, handed in: Twisted is imported in ``net`` only."""

    @property
    def globalLogBeginner(self) -> Any: ...
    @property
    def formatEvent(self) -> Callable[[Any], str]: ...


def configure(config: LoggingConfig, *, django: bool) -> None:
    """Give djserve's loggers a level, and lines that no handler takes a form.

    Under Django, ``settings.LOGGING`` has been applied before and stays as it is: its
    handlers and levels win, and so do handlers that come later. Without Django the root
    logger is set up, as with ``logging.basicConfig``. Calling it again adds no second
    handler.
    """
    level, others_level = LEVELS[min(config.verbosity, 3)]
    djserve = logging.getLogger("djserve")
    guard_loggers()
    _drop_late_writes()
    if django:
        _enable_loggers()
        # Python's own place for lines without a handler. One added to a logger would
        # write them a second time after a late logging.basicConfig().
        logging.lastResort = _LastHandler(config.log_format, config.log_json)
        _set_level(djserve, level)
        return
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(_FallbackHandler(config.log_format, config.log_json))
    root.setLevel(others_level)
    djserve.setLevel(level)


def configure_development() -> None:
    """Let the lines of ``runserver`` appear as they are, after ``configure``.

    Handlers of the project for "djserve.development", or for a logger above it, win.
    """
    development = logging.getLogger("djserve.development")
    _set_level(development, logging.INFO)
    if not development.handlers and not _is_handled_by_project(development):
        development.addHandler(_FallbackHandler("%(message)s"))
        development.propagate = False


def redirect_twisted(twisted_logger: TwistedLogger) -> None:
    """Route Twisted's log to "djserve.twisted", what it has buffered so far included.

    Standard output, standard error and Python's warnings are left as they are. Calling
    it again does nothing.
    """
    beginner = twisted_logger.globalLogBeginner
    if beginner in _redirected:
        return
    _redirected.add(beginner)
    logger = logging.getLogger("djserve.twisted")

    def observe(event: TwistedEvent) -> None:
        level = _twisted_level(event)
        if logger.isEnabledFor(level):
            text = twisted_logger.formatEvent(event)
            logger.log(level, "%s", text, exc_info=_exc_info(event))

    show_warning = warnings.showwarning
    beginner.beginLoggingTo([observe], redirectStandardIO=False)
    # Twisted takes warnings over too; they belong to the project's own set-up.
    warnings.showwarning = show_warning


def _twisted_level(event: TwistedEvent) -> int:
    level = event.get("log_level")
    return TWISTED_LEVELS.get(getattr(level, "name", "info"), logging.ERROR)


def _exc_info(event: TwistedEvent) -> Any:
    failure = event.get("log_failure")
    if failure is None:
        return None
    return (failure.type, failure.value, failure.getTracebackObject())


class _FallbackHandler(PatientHandler):
    """Standard error, if the project has set up no handler."""

    def __init__(self, line_format: str, is_json: bool = False) -> None:
        super().__init__()
        self.addFilter(RequestIDFilter())
        self.setFormatter(
            JSONFormatter() if is_json else logging.Formatter(line_format)
        )


class _LastHandler(_FallbackHandler):
    """djserve's lines at any level, and other libraries' from WARNING on."""

    def filter(self, record: logging.LogRecord) -> Any:
        """Return whether a line is to be written."""
        is_own = record.name.split(".", 1)[0] == "djserve"
        if not is_own and record.levelno < logging.WARNING:
            return False
        return super().filter(record)


_LATE_WRITES = ("SSL connection is closed", "socket.send() raised exception.")


class LateWrites(logging.Filter):
    """Drop what event loops say of writes to a connection that has just been lost.

    An application that sends several messages before it is told of the loss is no
    fault, and the message does not name the connection.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is about something else."""
        return record.msg not in _LATE_WRITES


def _drop_late_writes() -> None:
    # uvloop logs there too.
    logger = logging.getLogger("asyncio")
    if not any(isinstance(each, LateWrites) for each in logger.filters):
        logger.addFilter(LateWrites())


def _set_level(logger: logging.Logger, level: int) -> None:
    if logger.level == logging.NOTSET:
        logger.setLevel(level)


def _enable_loggers() -> None:
    """Undo ``disable_existing_loggers``, which is on unless LOGGING turns it off.

    It means the loggers that exist by chance when LOGGING is applied; levels are how a
    project silences ours.
    """
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.split(".")[0] == "djserve":
            logger.disabled = False


def _is_handled_by_project(logger: logging.Logger) -> bool:
    current: logging.Logger | None = logger
    while current is not None:
        if any(not isinstance(h, _FallbackHandler) for h in current.handlers):
            return True
        current = current.parent if current.propagate else None
    return False
