"""What the tests of the ASGI side share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


def _is_no_remark_on_slowness(record: logging.LogRecord) -> bool:
    return record.msg != "Executing %s took %.3f seconds"


@pytest.fixture(autouse=True)
def _no_remarks_on_slowness() -> Iterator[None]:
    """Keep asyncio's slow callbacks out of the log: they are a busy machine's fault."""
    logger = logging.getLogger("asyncio")
    logger.addFilter(_is_no_remark_on_slowness)
    yield
    logger.removeFilter(_is_no_remark_on_slowness)
