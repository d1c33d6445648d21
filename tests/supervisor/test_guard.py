from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from djserve.supervisor.guard import Guard

pytestmark = pytest.mark.e2e


def test_guard_that_was_ended_is_started_anew() -> None:
    guard = Guard()
    other = subprocess.Popen(
        [sys.executable, "-c", "input()"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        guard.add(other.pid, 60.0)
        first = guard.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
        guard.look()
        assert guard.pid not in (None, first)
        guard.remove(other.pid)
        guard.close()
        # A group that it was told to forget is left alone.
        assert other.poll() is None
    finally:
        other.kill()
        other.communicate()
