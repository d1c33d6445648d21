"""The rates of the crowd: what is made of the rounds."""

from __future__ import annotations

from tests.ecosystem.packages.crowd import CROWD, PATHS, Crowd
from tests.ecosystem.rates import ONE_ROUND, Rate, middle, render

ROUNDS = [Rate(2000, 20.0, 16.0, 0), Rate(2000, 40.0, 18.0, 1), Rate(2000, 25.0, 30, 2)]


def test_medians_of_the_rounds_count_and_all_faults() -> None:
    assert middle(ROUNDS) == Rate(2000, 25.0, 18.0, 3)


def test_table_has_each_round_and_the_medians() -> None:
    assert render({"djserve": ROUNDS[:1]}).splitlines()[2:] == [
        "| djserve | 1 | 100 | 16.0 | 8.0 | 0 |",
        "| **djserve** | **median** | 100 | 16.0 | 8.0 | 0 |",
    ]


def test_one_round_asks_for_each_path_as_each_user() -> None:
    calls = Crowd(rounds=2).calls()

    assert len(calls) == 2 * ONE_ROUND
    first = calls[:ONE_ROUND]
    assert {call.user for call in first} == {*CROWD}
    assert len({call.path.partition("?")[0] for call in first}) >= len(PATHS)
    assert Crowd(rounds=2).expected["transaction"] == len(calls)
