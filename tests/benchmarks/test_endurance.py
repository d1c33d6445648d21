"""What the endurance run holds against a server, and a short run on a real one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.endurance import (
    BOUNDS,
    Holding,
    Plan,
    find_faults,
    find_growth,
    run,
)
from benchmarks.soak_tally import Tally

HOLDING = Holding(
    memory=80.0,
    descriptors=30,
    threads=5,
    tasks=2,
    calls=0,
    databases=2,
    objects=2000,
)


def test_growth_within_the_bounds_is_none() -> None:
    grown = replace(HOLDING, memory=80.0 + BOUNDS.memory)

    assert find_growth({1: HOLDING}, {1: grown}) == []


def test_each_worker_is_held_to_each_bound() -> None:
    left = replace(HOLDING, tasks=3)
    open_files = replace(HOLDING, descriptors=30 + BOUNDS.descriptors + 1)

    assert find_growth({1: HOLDING, 2: HOLDING}, {1: left, 2: open_files}) == [
        "Worker 1: tasks grew from 2 to 3, by more than 0",
        "Worker 2: descriptors grew from 30 to 51, by more than 20",
    ]


def test_replaced_worker_is_a_problem() -> None:
    assert find_growth({1: HOLDING}, {2: HOLDING}) == [
        "Workers were replaced: [1], then [2]"
    ]


def test_failures_tracebacks_and_the_exit_code_are_faults() -> None:
    tally = Tally()
    for protocol in ("HTTP/1.1", "HTTP/2"):
        tally.answered(protocol)
    tally.failed("HTTP/1.1", ConnectionResetError("reset"), 50000)
    log = "before\nTraceback (most recent call last)\nValueError"

    assert find_faults(tally, log, 1, Plan(1.0).protocols) == [
        "HTTP/1.1 from port 50000: ConnectionResetError reset",
        "WebSocket message: there was no load",
        "1 tracebacks, the first:\nTraceback (most recent call last)\nValueError",
        "The server's exit code is 1",
    ]


@pytest.mark.e2e
def test_workers_hold_nothing_after_a_short_run(
    capfd: pytest.CaptureFixture[str],
) -> None:
    problems = run(Plan(5.0, warm_up=5.0))

    output = capfd.readouterr().out
    assert problems == [], output
    for event in (
        "leave a stream",
        "leave http2 streams",
        "leave a websocket",
    ):
        assert f"  {event}: " in output
