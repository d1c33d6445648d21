"""What the project has put behind djserve's loggers raises, and nothing comes out."""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
import sys
from collections.abc import Iterator

import pytest

from djserve.conf.schema import LoggingConfig
from djserve.instrumentation.logger_guard import NAMES, guard_loggers
from djserve.instrumentation.logging import configure
from djserve.instrumentation.reference import LOGGERS


class Own(BaseException):
    """One that derives from BaseException alone."""


EXCEPTIONS = [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, Own]


class Failing(logging.Filter):
    """A filter that cannot take the records of a server."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self._error = error

    def filter(self, record: logging.LogRecord) -> bool:
        raise self._error("planned")


class Sneaky(logging.Handler):
    """A handler that does not catch what it raises, unlike Python's own."""

    def emit(self, record: logging.LogRecord) -> None:
        raise ValueError("planned")


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """A root logger for new loggers, to which pytest has added nothing."""
    root = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "root", root)
    monkeypatch.setattr(logging.Logger, "root", root)
    monkeypatch.setattr(logging.Logger, "manager", logging.Manager(root))
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    before = signal.signal(signal.SIGINT, lambda *_: None)
    yield root
    signal.signal(signal.SIGINT, before)


def hang_on(root: logging.Logger, error: type[BaseException]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Failing(error))
    root.addHandler(handler)


@pytest.mark.parametrize("error", EXCEPTIONS)
@pytest.mark.parametrize("name", ["djserve.error", "djserve.access", "asyncio"])
def test_filter_that_raises_is_told_and_the_line_is_not_lost(
    root: logging.Logger,
    name: str,
    error: type[BaseException],
    capsys: pytest.CaptureFixture[str],
) -> None:
    hang_on(root, error)
    configure(LoggingConfig(), django=True)
    logging.getLogger(name).error("An important line")

    told = capsys.readouterr().err
    assert f"{error.__name__}: planned" in told
    assert "ERROR    An important line\n" in told


def test_handler_that_catches_nothing_is_told(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    root.addHandler(Sneaky())
    guard_loggers()
    logging.getLogger("djserve").error("An important line")

    assert "ValueError: planned" in capsys.readouterr().err


def test_factory_of_records_that_raises_is_replaced(
    root: logging.Logger,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*args: object, **kwargs: object) -> logging.LogRecord:
        raise ValueError("planned")

    root.addHandler(logging.StreamHandler(sys.stderr))
    monkeypatch.setattr(logging, "_logRecordFactory", fail)
    configure(LoggingConfig(), django=True)
    logging.getLogger("djserve").error("%s line", "An important")

    told = capsys.readouterr().err
    assert "ValueError: planned" in told
    assert "An important line\n" in told
    logger = logging.getLogger("djserve")
    record = logger.makeRecord(
        "djserve", logging.INFO, fn="a.py", lno=7, msg="Named", args=(), exc_info=None
    )
    assert (record.pathname, record.lineno, record.msg) == ("a.py", 7, "Named")


def test_record_names_the_place_that_logged_it(root: logging.Logger) -> None:
    places = []

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            places.append(record.filename)

    root.addHandler(Noting())
    guard_loggers()
    logging.getLogger("djserve").error("A line")

    assert places == ["test_logger_guard.py"]


def test_handler_that_looks_for_the_caller_finds_it(root: logging.Logger) -> None:
    places = []

    class Passing(logging.Handler):
        """As Loguru's documentation has it."""

        def emit(self, record: logging.LogRecord) -> None:
            frame, depth = inspect.currentframe(), 0
            while frame is not None and (
                depth == 0 or frame.f_code.co_filename == logging.__file__
            ):
                frame, depth = frame.f_back, depth + 1
            assert frame is not None
            places.append((frame.f_code.co_name, frame.f_lineno == record.lineno))

    root.addHandler(Passing())
    guard_loggers()
    logging.getLogger("djserve").error("A line")

    assert places == [("test_handler_that_looks_for_the_caller_finds_it", True)]


@pytest.mark.parametrize("name", ["djserve", "asyncio"])
def test_handler_that_answers_each_line_with_two_comes_to_an_end(
    root: logging.Logger, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    class Chatty(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            calls.append(1)
            # Else a guard that fails would keep the test for ever.
            if len(calls) < 5000:
                logging.getLogger(name).error("first")
                logging.getLogger(name).error("second")

    root.addHandler(Chatty())
    guard_loggers()
    logging.getLogger(name).error("An important line")

    assert len(calls) < 5000
    assert "RecursionError" in capsys.readouterr().err


def test_operators_interrupt_comes_out(root: logging.Logger) -> None:
    hang_on(root, KeyboardInterrupt)
    guard_loggers()
    signal.signal(signal.SIGINT, signal.default_int_handler)

    with pytest.raises(KeyboardInterrupt):
        logging.getLogger("djserve").error("A line")


def test_logger_class_of_a_package_keeps_its_methods(root: logging.Logger) -> None:
    class Chatty(logging.Logger):
        def shout(self) -> str:
            return self.name.upper()

    logging.setLoggerClass(Chatty)
    try:
        logging.getLogger("djserve.net")
    finally:
        logging.setLoggerClass(logging.Logger)
    hang_on(root, ValueError)
    guard_loggers()
    guard_loggers()
    logger = logging.getLogger("djserve.net")
    logger.error("A line")

    assert isinstance(logger, Chatty)
    assert logger.shout() == "DJSERVE.NET"


def test_event_loop_outlasts_a_filter_that_raises(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang_on(root, ValueError)
    guard_loggers()
    monkeypatch.setattr("asyncio.base_events.logger", logging.getLogger("asyncio"))
    turns = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(int, "no number")
        for _ in range(5):
            await asyncio.sleep(0)
            turns.append(1)

    with asyncio.Runner() as runner:
        runner.run(run())
    assert len(turns) == 5


def test_every_logger_of_the_reference_is_guarded() -> None:
    assert set(LOGGERS) < set(NAMES)
