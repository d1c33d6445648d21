"""The end of a process, which no thread may put off."""

from __future__ import annotations

import os
import sys
import threading

# Seconds for threads of the application when the server has ended, and for what else
# is done at exit.
THREADS_TIMEOUT = 5.0


def exit_within(timeout: float, exit_code: int) -> None:
    """End the process in ``timeout`` seconds if it has not ended by itself.

    Python joins the threads of every executor before it ends: a view that sleeps, or a
    consumer that waits for its broker, would hold up each reload.
    """

    def end() -> None:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                continue
        os._exit(exit_code)

    timer = threading.Timer(timeout, end)
    timer.daemon = True
    timer.start()
