"""How the WebSockets of a loop share its turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djserve.protocols.websocket.turns import FRAME_COST, TURN_COST, Turns

if TYPE_CHECKING:
    from collections.abc import Callable


class HandLoop:
    """An event loop whose turns and time are the test's."""

    def __init__(self) -> None:
        self.now = 100.0
        self.soon: list[Callable[[], object]] = []
        self.later: list[tuple[float, Callable[[], object]]] = []

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], object]) -> None:
        self.later.append((self.now + delay, callback))

    def time(self) -> float:
        return self.now

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()

    def sleep(self) -> None:
        """Move on to the next timer."""
        self.now, callback = self.later.pop(0)
        callback()


def test_without_a_loop_nothing_is_bounded() -> None:
    turns = Turns()
    turns.spend(1 << 40, 1 << 40)

    assert turns.left > 0


def test_turn_is_renewed_in_the_loops_next_one() -> None:
    loop = HandLoop()
    turns = Turns(loop)
    turns.spend(TURN_COST + 7)
    turns.spend(1)
    assert turns.left == -8
    assert len(loop.soon) == 1

    loop.turn()

    assert turns.left == TURN_COST
    assert loop.soon == []


def test_those_who_wait_have_a_turn_each() -> None:
    loop, order = HandLoop(), []
    turns = Turns(loop)

    def take(name: str) -> Callable[[], Any]:
        def proceed() -> None:
            order.append(name)
            turns.spend(TURN_COST)
            if order.count(name) < 2:
                turns.wait(take(name), is_heavy=True)

        return proceed

    for name in "abc":
        turns.wait(take(name), is_heavy=True)
    for served in ["a", "ab", "abc", "abca", "abcab", "abcabc"]:
        loop.turn()
        assert order == list(served)
    loop.turn()
    assert loop.soon == []


def test_those_who_sent_little_come_first() -> None:
    loop, order = HandLoop(), []
    turns = Turns(loop)
    turns.wait(lambda: order.append("heavy"), is_heavy=True)
    turns.wait(lambda: order.append("light"), is_heavy=False)

    assert turns.waits == 2
    loop.turn()

    assert order == ["light", "heavy"]


def test_one_who_waits_again_waits_for_another_turn() -> None:
    loop, calls = HandLoop(), []
    turns = Turns(loop)

    def proceed() -> None:
        calls.append(loop.now)
        turns.wait(proceed, is_heavy=False)

    turns.wait(proceed, is_heavy=False)
    loop.turn()

    assert len(calls) == 1
    assert len(loop.soon) == 1


def test_frames_of_a_second_are_limited() -> None:
    loop = HandLoop()
    turns = Turns(loop, frame_rate_limit=1000)
    read = 0

    def proceed() -> None:
        nonlocal read
        while turns.left > 0:
            turns.spend(FRAME_COST)
            read += 1
        turns.wait(proceed, is_heavy=True)

    turns.wait(proceed, is_heavy=True)
    while loop.now < 110.0:
        loop.turn()
        if loop.later:
            loop.sleep()

    # A tenth of a second's may come at once, and each turn may overdraw by one.
    assert 9_000 < read < 12_000


def test_unused_frames_are_not_saved_up() -> None:
    loop = HandLoop()
    turns = Turns(loop, frame_rate_limit=1000)
    loop.now += 3600
    turns.spend(FRAME_COST, 100)
    loop.turn()
    loop.sleep()

    assert turns.left <= 100 * FRAME_COST + 1
