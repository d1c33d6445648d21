"""A request taken apart: each contender answers, and no stage is lost."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.breakdown import (
    CONTENDERS,
    Breakdown,
    drive_once,
    measure_all,
    quietest,
    render,
    stage_times,
)
from benchmarks.stages import STAGES, Driven, Marks


@pytest.mark.parametrize("contender", CONTENDERS)
def test_contender_goes_through_all_stages_in_their_order(contender: str) -> None:
    async def main() -> Driven | None:
        driven = CONTENDERS[contender](Marks())
        if driven is not None:
            for number in range(3):
                await drive_once(driven, number)
            driven.close()
        return driven

    driven = asyncio.run(main())
    if driven is None:
        pytest.skip("Uvicorn is not installed")

    assert [*dict.fromkeys(driven.marks.names)] == [*STAGES]
    assert driven.sink.last.endswith(b"Hello, world!")


def test_stage_that_ends_twice_has_both_parts() -> None:
    marks = Marks(["send", "write", "send", "write", "end"], [110, 130, 160, 200, 250])

    assert stage_times(100, marks) == {"send": 40, "write": 60, "end": 50}


def test_quietest_round_counts_for_each_stage() -> None:
    slow, quick = dict.fromkeys(STAGES, 3.0), dict.fromkeys(STAGES, 2.0)
    slow["parse"] = 1.0
    found = quietest([Breakdown("some", slow, 1), Breakdown("some", quick, 1)])

    assert found.stages == {**quick, "parse": 1.0}


@pytest.mark.e2e
def test_table_has_all_stages_and_their_sum() -> None:
    breakdowns = asyncio.run(measure_all(rounds=1, requests=5))
    text = render(breakdowns, socket_write=1.5)

    assert all(f"| {name} |" in text for name in STAGES)
    assert f"**{breakdowns[-1].total:.2f}**" in text
