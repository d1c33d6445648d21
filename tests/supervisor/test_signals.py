"""Signals that arrive and what is taken out; descriptors that are watched."""

from __future__ import annotations

import os
import select
import signal
from functools import partial

from djserve.net.channel import open_pair
from djserve.supervisor.signals import SignalQueue, Watcher


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


def test_call_is_made_when_something_can_be_read() -> None:
    ours, theirs = open_pair()
    watcher = Watcher()
    calls: list[str] = []
    watcher.watch(ours, lambda: calls.append("read"))
    watcher.run(0)
    assert calls == []
    theirs.send({})
    watcher.run(5)

    assert calls == ["read"]
    ours.close()
    theirs.close()


def test_source_that_was_forgotten_in_the_same_turn_is_not_called() -> None:
    pairs = [open_pair(), open_pair()]
    watcher = Watcher()
    calls: list[int] = []

    def take(index: int) -> None:
        calls.append(index)
        for ours, _ in pairs:
            watcher.forget(ours)
            ours.close()

    for index, (ours, theirs) in enumerate(pairs):
        watcher.watch(ours, partial(take, index))
        theirs.send({})
    watcher.run(5)

    assert len(calls) == 1
    for _, theirs in pairs:
        theirs.close()


def test_what_is_not_watched_can_be_forgotten() -> None:
    ours, theirs = open_pair()
    Watcher().forget(ours)
    ours.close()
    theirs.close()
