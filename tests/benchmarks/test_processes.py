"""How a run that is interrupted ends what it has started."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from benchmarks import processes
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.e2e


@pytest.fixture
def handlers() -> Iterator[None]:
    """Give the signals back as they were."""
    before = {number: signal.getsignal(number) for number in processes.INTERRUPTS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    processes._interrupts.clear()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupt_amid_a_fork_is_not_lost(handlers: None) -> None:
    signal.signal(signal.SIGTERM, processes.interrupt)
    sent: list[int] = []

    def send() -> None:
        # Once: the hook stays with this process, which forks again.
        if not sent:
            sent.append(1)
            os.kill(os.getpid(), signal.SIGTERM)

    os.register_at_fork(after_in_parent=send)
    core = min(os.sched_getaffinity(0))
    with pytest.raises(KeyboardInterrupt):
        processes.start([sys.executable, "-c", "input()"], core)
    [process] = processes._running
    processes.end_all()

    assert process.wait(PATIENCE) == -signal.SIGKILL
