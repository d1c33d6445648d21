"""The supervisor's program after the handover."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
from djserve.conf.parser import parse
from djserve.supervisor.handover import Handover
config = parse({"BIND": ["127.0.0.1:0"], "WORKERS": 2, "PID_FILE": "/no/such/folder"})
command = [sys.executable, "-c", ""]
Handover(config, {"version": 1, "handlers": 5}, "", False, "UTC", command).become()
"""


@pytest.mark.e2e
def test_wrong_setting_and_logging_are_told_by_the_new_program() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=300
    )

    assert ended.returncode == 2
    assert (
        "djserve: error: PID_FILE '/no/such/folder' cannot be written" in ended.stderr
    )
    assert "The supervisor logs without LOGGING: " in ended.stderr
