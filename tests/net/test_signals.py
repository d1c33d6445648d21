"""Signals reach the loop, whether or not it handles any itself."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from djserve.net.signals import STOP_SIGNALS, find_signal, handle_signal
from tests.support.waiting import PATIENCE


class _LoopWithoutSignals(asyncio.SelectorEventLoop):
    def add_signal_handler(self, *args: object) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("kind", [asyncio.SelectorEventLoop, _LoopWithoutSignals])
def test_signal_calls_in_the_loop_until_it_is_undone(
    kind: type[asyncio.SelectorEventLoop],
) -> None:
    # Another test's loop may have left its own handler behind.
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    called: list[bool] = []

    async def receive() -> None:
        loop = asyncio.get_running_loop()
        has_come = asyncio.Event()

        def note() -> None:
            called.append(asyncio.get_running_loop() is loop)
            has_come.set()

        stop = handle_signal(loop, signal.SIGUSR1, note)
        # The loop sleeps by then: nothing but the signal can wake it.
        timer = threading.Timer(0.05, signal.raise_signal, [signal.SIGUSR1])
        timer.start()
        await asyncio.wait_for(has_come.wait(), PATIENCE)
        timer.join()
        stop()

    with asyncio.Runner(loop_factory=kind) as runner:
        runner.run(receive())
    assert called == [True]
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_signal_that_was_blocked_comes_all_the_same() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,))

    async def receive() -> None:
        has_come = asyncio.Event()
        stop = handle_signal(asyncio.get_running_loop(), signal.SIGUSR1, has_come.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.wait_for(has_come.wait(), PATIENCE)
        stop()

    try:
        asyncio.run(receive())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_stop_signals_are_those_of_the_system() -> None:
    assert STOP_SIGNALS == (signal.SIGTERM, signal.SIGINT)
    assert find_signal("SIGHUP") is signal.SIGHUP
    assert find_signal("SIGBREAK") is None
