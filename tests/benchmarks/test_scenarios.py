"""Which scenarios a name stands for, and who takes part."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.cli import choose, describe_plan, rounds_of
from benchmarks.goals import GOALS, goal_scenarios
from benchmarks.loads import PACKAGES
from benchmarks.options import build_parser, list_scenarios
from benchmarks.processes import BenchmarkError
from benchmarks.profiles import GOALS_ONLY, NORMAL, QUICK, Profile
from benchmarks.profiling import HOT_PATHS
from benchmarks.runner import contenders, estimate
from benchmarks.scenarios import BY_NAME, SCENARIOS, Scenario, select, tools_of


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
    assert BY_NAME.keys() >= {*HOT_PATHS}


def test_tools_are_known_with_the_scenarios_that_need_them() -> None:
    users = tools_of(SCENARIOS)

    assert users.keys() == PACKAGES.keys()
    assert users["h2load"] == ["http2_hello", "http2_django"]
    assert {"django_query_postgresql", "realistic_page"} <= {*users["initdb"]}
    assert {"http1_hello", "django_sync", "access_log_cost"} <= {*users["wrk"]}


def test_only_the_servers_that_are_named_take_part() -> None:
    scenario = BY_NAME["http1_hello"]

    assert contenders(scenario, ("uvicorn", "djserve")) == ["djserve", "uvicorn"]
    assert contenders(scenario, ()) == [*scenario.contenders]


def test_run_for_the_goals_measures_whom_they_name() -> None:
    chosen = {each.name: contenders(each, ()) for each in goal_scenarios()}

    assert {goal.scenario for goal in GOALS} <= chosen.keys()
    assert set(chosen["http2_hello"]) == {"djserve", "granian", "gunicorn"}
    assert chosen["memory_upload"] == ["djserve"]


@pytest.mark.parametrize(
    ("plan", "scenarios", "limit"),
    [
        pytest.param(GOALS_ONLY, goal_scenarios(), GOALS_ONLY.minutes, id="goals"),
        pytest.param(NORMAL, SCENARIOS, NORMAL.minutes, id="whole"),
    ],
)
def test_run_fits_into_its_time(
    plan: Profile, scenarios: list[Scenario], limit: float
) -> None:
    count, minutes = estimate(
        scenarios,
        (),
        lambda each: plan.steady_rounds if each.is_steady else plan.rounds,
        plan.seconds,
    )

    assert count > 100
    assert minutes < limit


@pytest.mark.parametrize(("words", "limit"), [([], "50"), (["--minutes", "30"], "30")])
def test_plan_says_when_one_round_is_made(words: list[str], limit: str) -> None:
    plan = describe_plan([*SCENARIOS], build_parser().parse_args(words))

    assert plan.endswith(f"; one round only of what is left if {limit} do not suffice")


def test_quick_run_takes_ten_minutes() -> None:
    options = build_parser().parse_args(["--quick"])
    chosen = choose(options)
    _, minutes = estimate(chosen, (), lambda each: rounds_of(each, options), 1)

    assert 8 < minutes < 12
    assert "do not suffice" not in describe_plan(chosen, options)


def test_estimate_counts_loads_and_what_comes_beside_them() -> None:
    scenario = replace(BY_NAME["access_log_cost"], is_whole=True)
    count, minutes = estimate([scenario], ("djserve",), lambda each: 3, seconds=5)

    assert count == 3
    assert scenario.loads > 1
    assert minutes == 3 * (scenario.loads * 5 + scenario.overhead) / 60


def test_names_in_the_list_stand_by_themselves(
    capsys: pytest.CaptureFixture[str],
) -> None:
    list_scenarios()

    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [scenario.name for scenario in SCENARIOS]
