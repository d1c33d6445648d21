"""The end of a process."""

from __future__ import annotations

import io
import os
import queue
import subprocess
import sys

import pytest

from djserve.server.ending import exit_within

pytestmark = pytest.mark.e2e

EXIT_WITH_A_BUSY_THREAD = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from djserve.server.ending import exit_within
ThreadPoolExecutor().submit(time.sleep, 600)
print("flushed", end="")
{close}
exit_within(0.1, 3)
"""


@pytest.mark.parametrize("closed", [False, True])
def test_process_is_ended_after_the_timeout(
    closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: queue.Queue[int] = queue.Queue()
    stdout = io.StringIO()
    if closed:
        stdout.close()
    monkeypatch.setattr(os, "_exit", codes.put)
    monkeypatch.setattr(sys, "stdout", stdout)
    exit_within(0.01, 3)

    assert codes.get(timeout=60) == 3


@pytest.mark.parametrize("close", ["", "sys.stdout.close()"], ids=["open", "closed"])
def test_process_ends_though_a_thread_is_busy(close: str) -> None:
    code = EXIT_WITH_A_BUSY_THREAD.format(close=close)
    # The thread takes longer than the process may.
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=300
    )

    assert result.returncode == 3
    assert result.stdout == b"flushed"
