"""Limits of a worker's life."""

from __future__ import annotations

import random

import pytest

from djserve.conf.schema import WorkersConfig
from djserve.supervisor.limits import Limits


def test_without_settings_a_worker_lives_on() -> None:
    limits = Limits.draw(WorkersConfig(), random.Random())

    assert limits.find_reason(10**9, 10**9, 10**15) == ""


@pytest.mark.parametrize(
    ("used", "reason"),
    [
        ((100, 0, 0), "it has answered 100 requests"),
        ((0, 60, 0), "it is 60 seconds old"),
        ((0, 0, 2**20), "it uses 1 MiB"),
        ((99, 59, 2**20 - 1), ""),
    ],
)
def test_first_limit_reached_is_the_reason(
    used: tuple[int, int, int], reason: str
) -> None:
    assert Limits(100, 60, 2**20).find_reason(*used) == reason


def test_limits_vary_below_the_setting_by_the_jitter() -> None:
    config = WorkersConfig(worker_max_requests=1000, worker_jitter=20)
    chance = random.Random(1)
    drawn = [Limits.draw(config, chance).requests for _ in range(100)]

    assert 800 <= min(drawn) < 850
    assert 950 < max(drawn) <= 1000
