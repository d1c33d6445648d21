from __future__ import annotations

import io
import logging
import subprocess
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.logger import LogBeginner, Logger, LogPublisher, formatEvent
from twisted.python.failure import Failure

from djserve.conf.schema import LoggingConfig
from djserve.instrumentation.logging import (
    configure,
    configure_development,
    redirect_twisted,
)
from tests.support.logs import own_records


class BareRoot(logging.RootLogger):
    """A root logger that pytest's own handlers stay away from."""

    def addHandler(self, handler: logging.Handler) -> None:
        if not type(handler).__module__.startswith("_pytest"):
            super().addHandler(handler)


@pytest.fixture
def bare_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logging system of a process in which nothing is set up yet."""
    root = BareRoot(logging.WARNING)
    monkeypatch.setattr(logging, "root", root)
    monkeypatch.setattr(logging.Logger, "root", root)
    monkeypatch.setattr(logging.Logger, "manager", logging.Manager(root))
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)


@pytest.fixture
def djserve(bare_logging: None) -> logging.Logger:
    return logging.getLogger("djserve")


def own_handler(logger: logging.Logger) -> io.StringIO:
    stream = io.StringIO()
    logger.addHandler(logging.StreamHandler(stream))
    return stream


# Without Django


@pytest.mark.usefixtures("bare_logging")
@pytest.mark.parametrize(
    ("verbosity", "levels"),
    [
        (0, (logging.WARNING, logging.WARNING)),
        (1, (logging.INFO, logging.INFO)),
        (2, (logging.DEBUG, logging.INFO)),
        (3, (logging.DEBUG, logging.DEBUG)),
        (9, (logging.DEBUG, logging.DEBUG)),
    ],
)
def test_verbosity_sets_the_levels(verbosity: int, levels: tuple[int, int]) -> None:
    configure(LoggingConfig(verbosity=verbosity), django=False)

    assert (logging.getLogger("djserve").level, logging.root.level) == levels


def test_lines_have_the_configured_format(
    djserve: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(LoggingConfig(log_format="<%(levelname)s> %(message)s"), django=False)
    djserve.info("Listening")
    logging.getLogger("application").warning("Slow")

    assert capsys.readouterr().err == "<INFO> Listening\n<WARNING> Slow\n"


def test_second_configure_changes_levels_only(
    djserve: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(LoggingConfig(verbosity=1), django=False)
    configure(LoggingConfig(verbosity=2), django=False)
    djserve.debug("once")

    assert capsys.readouterr().err.count("once") == 1


# Under Django


def test_lines_are_written_where_no_handler_takes_them(
    djserve: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(LoggingConfig(log_format="%(message)s"), django=True)
    djserve.info("Listening")

    assert capsys.readouterr().err == "Listening\n"
    assert (logging.root.handlers, logging.root.level) == ([], logging.WARNING)


@pytest.mark.parametrize("name", [None, "djserve"])
def test_handlers_of_the_project_are_left_alone(
    name: str | None, djserve: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = own_handler(logging.getLogger(name))
    configure(LoggingConfig(), django=True)
    djserve.info("Listening")

    assert stream.getvalue() == "Listening\n"
    assert capsys.readouterr().err == ""


def test_level_of_the_project_is_kept(djserve: logging.Logger) -> None:
    djserve.setLevel(logging.ERROR)
    configure(LoggingConfig(verbosity=3), django=True)

    assert djserve.level == logging.ERROR


@pytest.mark.parametrize("django", [True, False])
def test_handler_that_comes_late_takes_the_lines_once(
    django: bool, djserve: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(LoggingConfig(), django=django)
    logging.basicConfig(format="late %(message)s")
    djserve.info("Listening")

    assert capsys.readouterr().err.count("Listening") == 1


@pytest.mark.usefixtures("bare_logging")
def test_warnings_of_other_libraries_have_the_format(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(LoggingConfig(log_format="<%(levelname)s> %(message)s"), django=True)
    logging.getLogger("library").setLevel(logging.DEBUG)
    logging.getLogger("library").info("detail")
    logging.getLogger("library").warning("trouble")

    assert capsys.readouterr().err == "<WARNING> trouble\n"


@pytest.mark.usefixtures("bare_logging")
@pytest.mark.parametrize("django", [True, False])
def test_writes_to_a_connection_just_lost_are_no_warning(
    django: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        configure(LoggingConfig(log_format="%(message)s"), django=django)
    logger = logging.getLogger("asyncio")
    logger.warning("SSL connection is closed")
    logger.warning("socket.send() raised exception.")
    logger.warning("Executing took 2 seconds")

    assert capsys.readouterr().err == "Executing took 2 seconds\n"
    assert len(logger.filters) == 1


# The development server


@pytest.mark.usefixtures("bare_logging")
def test_development_lines_are_bare(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LoggingConfig(), django=True)
    for _ in range(2):
        configure_development()
    logging.getLogger("djserve.development").info("HTTP GET / 200")

    assert capsys.readouterr().err == "HTTP GET / 200\n"


@pytest.mark.usefixtures("bare_logging")
def test_development_lines_go_to_handlers_of_the_project(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = own_handler(logging.root)
    configure(LoggingConfig(verbosity=0), django=True)
    configure_development()
    logging.getLogger("djserve.development").info("HTTP GET / 200")

    assert stream.getvalue() == "HTTP GET / 200\n"
    assert capsys.readouterr().err == ""


def test_development_lines_stop_where_the_project_stops_them(
    djserve: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    above = own_handler(logging.root)
    djserve.propagate = False
    configure_development()
    logging.getLogger("djserve.development").info("HTTP GET / 200")

    assert above.getvalue() == ""
    assert capsys.readouterr().err == "HTTP GET / 200\n"


# Twisted


@pytest.fixture
def twisted() -> Any:
    """A logging system of Twisted's own kind, beside the process's one."""
    publisher = LogPublisher()
    beginner = LogBeginner(publisher, io.StringIO(), sys, warnings)
    log = Logger("t", observer=publisher)  # type: ignore[arg-type]
    return SimpleNamespace(
        globalLogBeginner=beginner,
        formatEvent=formatEvent,
        log=log,
    )


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    return [(r.name, r.levelno, r.message) for r in own_records(caplog)]


def test_failures_of_twisted_are_logged_with_their_traceback(
    twisted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    redirect_twisted(twisted)
    try:
        raise ValueError("lost in a deferred")
    except ValueError:
        twisted.log.failure("Unhandled error in {what}", Failure(), what="Deferred")

    assert told(caplog) == [
        ("djserve.twisted", logging.CRITICAL, "Unhandled error in Deferred")
    ]
    assert "ValueError: lost in a deferred" in caplog.text


@pytest.mark.parametrize(
    ("method", "level"),
    [
        ("debug", logging.DEBUG),
        ("info", logging.DEBUG),
        ("warn", logging.WARNING),
        ("error", logging.ERROR),
        ("critical", logging.CRITICAL),
    ],
)
def test_twisted_levels_are_mapped(
    method: str, level: int, twisted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    redirect_twisted(twisted)
    with caplog.at_level(logging.DEBUG, "djserve.twisted"):
        getattr(twisted.log, method)("100%s of {it}", it="it")

    assert told(caplog) == [("djserve.twisted", level, "100%s of it")]


def test_what_twisted_buffered_is_logged_and_nothing_twice(
    twisted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    twisted.log.warn("early")
    redirect_twisted(twisted)
    redirect_twisted(twisted)
    twisted.log.warn("late")

    assert [record.message for record in own_records(caplog)] == ["early", "late"]


def test_quiet_levels_are_not_formatted(twisted: Any) -> None:
    formatted: list[str] = []

    def format_event(event: dict[str, Any]) -> str:
        formatted.append(event["log_format"])
        return formatEvent(event)

    twisted.formatEvent = format_event
    redirect_twisted(twisted)
    twisted.log.info("Starting factory")
    twisted.log.warn("Port is taken")

    assert formatted == ["Port is taken"]


def test_warnings_and_streams_stay_as_they_are(twisted: Any) -> None:
    before = (warnings.showwarning, sys.stdout, sys.stderr)
    redirect_twisted(twisted)

    assert (warnings.showwarning, sys.stdout, sys.stderr) == before


@pytest.mark.e2e
def test_unhandled_deferred_of_a_process_is_logged() -> None:
    program = (
        "import logging\n"
        "from twisted import logger\n"
        "from twisted.internet.defer import fail\n"
        "from djserve.instrumentation.logging import redirect_twisted\n"
        "logging.basicConfig(format='%(name)s %(levelname)s %(message)s')\n"
        "redirect_twisted(logger)\n"
        "fail(ValueError('nobody listens'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300
    )

    assert done.stderr.startswith("djserve.twisted CRITICAL")
    assert "ValueError: nobody listens" in done.stderr


def test_loggers_disabled_in_passing_are_enabled(djserve: logging.Logger) -> None:
    module, other = logging.getLogger("djserve.server"), logging.getLogger("djserver")
    for logger in (djserve, module, other):
        logger.disabled = True
    configure(LoggingConfig(), django=True)

    assert not djserve.disabled
    assert not module.disabled
    assert other.disabled
