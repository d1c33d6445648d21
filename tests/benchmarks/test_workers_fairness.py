"""How the shares of workers are counted and shown."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from benchmarks.processes import BenchmarkError
from benchmarks.soak_server import serve
from benchmarks.workers_fairness import count_long, count_short, spread


def test_shares_add_up_and_begin_with_the_least() -> None:
    assert spread(Counter({11: 150, 12: 50}), workers=2) == "25% / 75%"
    assert spread(Counter({11: 10, 12: 0}), workers=2) == "0% / 100%"


@pytest.mark.parametrize("found", [{11: 10}, {11: 0, 12: 0}, {}])
def test_worker_that_is_not_known_is_an_error(found: dict[int, int]) -> None:
    with pytest.raises(BenchmarkError, match="workers are known"):
        spread(Counter(found), workers=2)


@pytest.mark.e2e
def test_each_connection_is_counted_once() -> None:
    with serve([], tls=False, workers=2) as server:
        asyncio.run(server.wait_for("Supervisor "))

        assert sum(count_long(server, 12).values()) == 12
        assert sum(count_short(server, 3).values()) == 3

        # A burst's shares are chance, those of many hardly: one worker had a tenth.
        shares: list[float] = []
        while not shares or (len(shares) < 30 and sum(shares) / len(shares) < 0.25):
            # A worker's largest number counts for a quarter of a second.
            time.sleep(0.3)
            shares.append(min(count_long(server, 60).values()) / 60)
        assert sum(shares) / len(shares) >= 0.25

        server.stop()
