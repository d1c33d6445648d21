"""The sweep: who is asked, how often, and what a failing one does to the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from djserve.server.deadlines import (
    LONGEST_INTERVAL,
    SETTLING_TURNS,
    SHORTEST_INTERVAL,
    Sweep,
    choose_interval,
)
from tests.support.logs import own_records
from tests.support.virtual_time import VirtualTimeLoop, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from djserve.interfaces import Ticking


class Target:
    def __init__(self, action: Callable[[float], object] | None = None) -> None:
        self.times: list[float] = []
        self.action = action

    def tick(self, now: float) -> None:
        self.times.append(now)
        if self.action is not None:
            self.action(now)


def fail(now: float) -> None:
    raise ValueError("broken target")


@pytest.mark.parametrize(
    ("timeouts", "interval"),
    [
        ([None, 0, 2.0], 0.5),
        ([10.0, 75.0], LONGEST_INTERVAL),
        ([10.0, None, 2.0], 0.5),
        ([0.05], SHORTEST_INTERVAL),
    ],
)
def test_interval_suits_the_shortest_timeout(
    timeouts: list[float | None], interval: float
) -> None:
    assert choose_interval(timeouts) == interval


def test_every_target_gets_the_same_time() -> None:
    targets = [Target(), Target()]
    times = iter([1.0, 2.0])
    sweep = Sweep(lambda: targets, 1.0, lambda: next(times))
    sweep.run()
    sweep.run()

    assert [target.times for target in targets] == [[1.0, 2.0], [1.0, 2.0]]


def test_failing_target_spares_the_others(caplog: pytest.LogCaptureFixture) -> None:
    targets = [Target(), Target(fail), Target()]
    Sweep(lambda: targets, 1.0).run()

    assert [len(target.times) for target in targets] == [1, 1, 1]
    [record] = own_records(caplog)
    assert record.name == "djserve.error"
    assert record.exc_info is not None


def test_target_may_end_itself_and_others_meanwhile() -> None:
    targets: set[Ticking] = set()
    for _ in range(3):
        targets.add(Target(lambda now: targets.clear()))
    Sweep(lambda: targets, 1.0).run()

    assert targets == set()


def test_sweep_goes_on_until_it_is_stopped() -> None:
    async def run() -> tuple[int, int]:
        target, enough = Target(), asyncio.Event()
        target.action = lambda now: enough.set() if len(target.times) == 3 else None
        sweep = Sweep(lambda: [target], 0.001)
        sweep.start(asyncio.get_running_loop())
        await enough.wait()
        sweep.stop()
        sweep.stop()
        await asyncio.sleep(10)
        return 3, len(target.times)

    expected, found = run_in_virtual_time(run())
    assert found == expected


def test_sweep_survives_failures(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        failing, enough = Target(fail), asyncio.Event()

        def targets() -> Iterable[Ticking]:
            if len(failing.times) == 3:
                enough.set()
            return [failing]

        sweep = Sweep(targets, 0.001)
        sweep.start(asyncio.get_running_loop())
        await enough.wait()
        sweep.stop()

    run_in_virtual_time(run())
    assert len(own_records(caplog)) >= 3


def test_blocked_time_counts_as_one_interval_and_bytes_are_read_first() -> None:
    target = Target()
    turns: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        sweep = Sweep(lambda: [target], 1.0, loop.time)
        sweep.start(loop)
        await asyncio.sleep(2.5)
        loop.block(100.0)
        # Half of the turns that are given pass without a verdict.
        for _ in range(SETTLING_TURNS // 2 + 1):
            await asyncio.sleep(0)
            turns.append(len(target.times))
        await asyncio.sleep(2.0)
        sweep.stop()

    run_in_virtual_time(main())

    assert set(turns) == {3}
    assert target.times[:5] == pytest.approx([0.0, 1.0, 2.0, 3.0, 4.0])


def test_stopped_sweep_does_not_come_after_a_blocked_time() -> None:
    target = Target()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        sweep = Sweep(lambda: [target], 1.0, loop.time)
        sweep.start(loop)
        loop.block(100.0)
        await asyncio.sleep(0)
        sweep.stop()
        await asyncio.sleep(10.0)

    run_in_virtual_time(main())

    assert target.times == [0.0]
