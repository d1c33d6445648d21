"""What djserve has logged, apart from all that others log in the meantime."""

from __future__ import annotations

import logging

import pytest

OWN = ("djserve", "demo_project")


def own_records(
    caplog: pytest.LogCaptureFixture, level: int = logging.NOTSET
) -> list[logging.LogRecord]:
    """Return the records of djserve's and the demo's own loggers, from a level on.

    asyncio remarks on slow callbacks and on tasks that the garbage collector finds:
    these depend on the machine, and on the tests before.
    """
    return [
        record
        for record in caplog.records
        if record.name.partition(".")[0] in OWN and record.levelno >= level
    ]


def own_messages(
    caplog: pytest.LogCaptureFixture, level: int = logging.NOTSET
) -> list[str]:
    """Return the messages of ``own_records``."""
    return [record.getMessage() for record in own_records(caplog, level)]
