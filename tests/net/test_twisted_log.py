"""Twisted's log, routed to Python's."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e

# In a process of its own: Twisted's log can be begun once.
LOG_SOMETHING = """
import logging
logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
import pytest

from djserve.net.twisted_log import redirect
redirect()
redirect()
from twisted.logger import Logger
Logger().warn("watch {what}", what="out")
"""


def test_messages_of_twisted_go_to_their_logger_once() -> None:
    command = [sys.executable, "-c", LOG_SOMETHING]
    result = subprocess.run(command, capture_output=True, text=True)

    assert result.stderr == "djserve.twisted WARNING watch out\n"
