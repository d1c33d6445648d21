"""Descriptors that are watched."""

from __future__ import annotations

from functools import partial

from djserve.net.channel import open_pair
from djserve.supervisor.watcher import Watcher


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
