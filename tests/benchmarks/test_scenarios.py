"""Which scenarios a name stands for, and who takes part."""

from __future__ import annotations

import pytest

from benchmarks.goals import GOALS
from benchmarks.processes import BenchmarkError
from benchmarks.profiles import QUICK
from benchmarks.runner import contenders
from benchmarks.scenarios import BY_NAME, SCENARIOS, select


def test_each_name_is_given_once() -> None:
    assert len(BY_NAME) == len(SCENARIOS)


def test_exact_name_is_not_a_prefix() -> None:
    assert [each.name for each in select(["http1_idle_1"])] == ["http1_idle_1"]


def test_prefix_stands_for_all_that_begin_with_it() -> None:
    found = {each.name for each in select(["websocket_mask"])}

    assert len(found) > 1
    assert all(name.startswith("websocket_mask_") for name in found)


def test_unknown_name_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="nonsense"):
        select(["http1_hello", "nonsense"])


def test_goals_and_profiles_name_scenarios_that_exist() -> None:
    assert {goal.scenario for goal in GOALS} <= BY_NAME.keys()
    assert BY_NAME.keys() >= QUICK.left_out


def test_only_the_servers_that_are_named_take_part() -> None:
    scenario = BY_NAME["http1_hello"]

    assert contenders(scenario, ("uvicorn", "djserve")) == ["djserve", "uvicorn"]
    assert contenders(scenario, ()) == [*scenario.contenders]
