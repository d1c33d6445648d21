"""Signals that arrive, and what is taken out."""

from __future__ import annotations

import os
import select
import signal

from djserve.supervisor.signals import SignalQueue


def send(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def is_readable(signals: SignalQueue) -> bool:
    return bool(select.select([signals], [], [], 0)[0])


def test_signal_makes_the_queue_readable() -> None:
    with SignalQueue() as signals:
        assert not is_readable(signals)
        send(signal.SIGHUP)

        assert is_readable(signals)
        assert signals.take() == [signal.SIGHUP]
        assert not is_readable(signals)


def test_each_kind_is_taken_once_in_its_order() -> None:
    with SignalQueue() as signals:
        send(signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR1)

        assert signals.take() == [signal.SIGUSR1, signal.SIGHUP]
        assert signals.take() == []


def test_second_request_to_stop_stays_for_a_second_turn() -> None:
    with SignalQueue() as signals:
        send(signal.SIGTERM, signal.SIGTERM)

        assert signals.take() == [signal.SIGTERM]
        assert is_readable(signals)
        assert signals.take() == [signal.SIGTERM]


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with SignalQueue():
        assert signal.getsignal(signal.SIGHUP) is not before

    assert signal.getsignal(signal.SIGHUP) is before
