"""What an access log takes: seconds of two servers, compared in pairs."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from benchmarks import access_log_cost
from benchmarks.access_log_cost import (
    Second,
    Share,
    cpu_seconds,
    fifo,
    load_together,
    render,
    share_of_cpu,
    share_of_rate,
)

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = [Second(10.0, 1000.0), Second(20.0, 500.0), Second(9.0, 1000.0)]
LOGGED = [Second(12.5, 800.0), Second(25.0, 450.0), Second(10.0, 900.0)]


def test_share_is_the_median_of_the_pairs() -> None:
    assert share_of_cpu(PLAIN, LOGGED).median == pytest.approx(20)
    assert share_of_rate(PLAIN, LOGGED).median == pytest.approx(10)


def test_slow_second_of_both_changes_nothing() -> None:
    share = share_of_cpu([*PLAIN, Second(90, 9)], [*LOGGED, Second(112.5, 8)])

    assert share.median == pytest.approx(20)


def test_one_pair_has_no_spread() -> None:
    share = share_of_cpu(PLAIN[:1], LOGGED[:1])

    assert (share.median, share.lower, share.upper) == pytest.approx((20, 20, 20))


def test_share_is_shown_with_its_quartiles() -> None:
    assert str(Share(9.04, 8.0, 10.0)) == "9.0 % (8.0 to 10.0)"


def test_pairs_must_be_whole() -> None:
    with pytest.raises(ValueError, match="shorter"):
        share_of_cpu(PLAIN, LOGGED[:2])


def test_servers_are_loaded_together_and_the_first_second_is_not_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[list[str]] = []

    def load(servers: Any, core: int) -> list[Second]:
        order.append(servers)
        return [Second(10 * len(order) + len(server), 1) for server in servers]

    monkeypatch.setattr(access_log_cost, "load_for_a_second", load)
    plain, logged = load_together(cast("Any", ["off", "on"]), 3, 1)

    assert order == [["on", "off"], ["off", "on"], ["on", "off"], ["off", "on"]]
    assert [second.cost for second in plain] == [23, 33, 43]
    assert [second.cost for second in logged] == [22, 32, 42]


def test_cpu_time_of_a_process_is_that_which_it_has_used() -> None:
    before, own = cpu_seconds([os.getpid()]), time.process_time()
    while time.process_time() - own < 0.2:
        pass

    assert cpu_seconds([os.getpid()]) - before >= 0.1


@pytest.mark.e2e
def test_pipe_takes_more_than_it_can_hold(tmp_path: Path) -> None:
    with fifo(tmp_path / "pipe", 0) as path, path.open("wb") as file:
        assert file.write(bytes(1 << 20)) == 1 << 20


def test_table_has_a_line_for_each_log() -> None:
    lines = render(PLAIN, {"file": LOGGED, "pipe": LOGGED}).splitlines()

    assert lines[2:4] == [
        "| none | 10.00 µs | | |",
        "| file | 12.50 µs | 20.0 % (15.0 to 20.0) | 10.0 % (10.0 to 15.0) |",
    ]
