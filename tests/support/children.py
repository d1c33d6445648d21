"""Processes that a test's own process forks, in the midst of what others do."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.waiting import PATIENCE


def exit_code_of(pid: int) -> int:
    """Return the exit code of a child, which is killed if it does not end."""
    deadline = time.monotonic() + PATIENCE
    ended, status = 0, 0
    while not ended:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.005)
        ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status)


@contextmanager
def held_elsewhere(lock: Any) -> Iterator[None]:
    """Have another thread hold a lock, which does not exist in a child."""
    taken, gate = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            gate.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(PATIENCE)
    try:
        yield
    finally:
        gate.set()
        thread.join()
