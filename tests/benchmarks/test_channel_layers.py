from __future__ import annotations

import pytest

from benchmarks.channel_layers import Result, measure_group, measure_send

pytestmark = pytest.mark.e2e


def test_group_in_two_processes_is_measured_with_all_of_their_members() -> None:
    result = measure_group("host", 2, members=4, size=64, seconds=0.05)

    assert result.deliveries == 4 * len(result.rounds) > 0
    assert result.processor > 0


def test_answers_of_one_process_are_measured() -> None:
    result = measure_send("memory", 1, size=64, seconds=0.05)

    assert result.deliveries == 2 * len(result.rounds) > 0


def test_row_tells_rate_cost_and_latency() -> None:
    row = str(Result(1000, 2.0, 0.01, [0.001, 0.002, 0.009]))

    assert row.split() == ["500/s", "10.0", "us", "CPU", "2.00", "ms", "p50"]
