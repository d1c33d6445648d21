"""From one generation of the code to the next, with real processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from djserve.supervisor.fleet import Fleet
from djserve.supervisor.messages import Failed, WorkerState
from djserve.supervisor.processes import Launcher
from djserve.supervisor.rollout import RolloutOutcome
from djserve.supervisor.signals import Watcher
from djserve.supervisor.spawner import Spawner
from tests.supervisor.fakes import Troop
from tests.support.logs import own_records

MakeCrew = Callable[..., Any]
MakeTroop = Callable[..., Troop]

ENDS = "import os\nasync def application(scope, receive, send):\n    os._exit(9)\n"


def states_until_done(crew: Any) -> list[str]:
    """Return the states that a rollout goes through, each once."""
    states: list[str] = []

    def is_done() -> bool:
        state = crew.fleet.rollout.outcome.state
        if state not in states:
            states.append(state)
        return state in ("done", "failed")

    crew.run_until(is_done)
    return states


@pytest.mark.e2e
def test_first_code_replaces_nothing(make_crew: MakeCrew) -> None:
    crew = make_crew(1)
    assert crew.fleet.rollout.outcome.state == "none"
    crew.fleet.rollout.begin()

    assert states_until_done(crew) == ["loading", "done"]
    assert not crew.fleet.rollout.is_under_way


@pytest.mark.e2e
def test_new_code_is_loaded_then_rolled_out(make_crew: MakeCrew) -> None:
    crew = make_crew(1).start()
    crew.fleet.rollout.begin()

    assert states_until_done(crew) == ["loading", "rolling", "done"]
    assert crew.fleet.rollout.current.number == 2
    assert {w.generation for w in crew.fleet.ready} == {2}


@pytest.mark.e2e
def test_loader_of_the_old_code_ends_after_the_rollout(make_crew: MakeCrew) -> None:
    crew = make_crew(1).start()
    old = crew.fleet.rollout.current.base
    crew.fleet.rollout.begin()
    states_until_done(crew)
    crew.run_until(lambda: old.process.poll() is not None)

    assert old.process.returncode == 0


@pytest.mark.e2e
def test_loader_killed_while_it_loads_leaves_the_old_workers(
    make_crew: MakeCrew, project: Path
) -> None:
    crew = make_crew(1).start()
    before = crew.ids()
    crew.fleet.rollout.begin()
    (loader,) = crew.fleet._spawner.loaders.keys() - {crew.fleet.rollout.current.base}
    loader.process.kill()
    states_until_done(crew)

    assert crew.fleet.rollout.outcome.problems == (
        "Loading the application was ended by SIGKILL",
    )
    assert crew.ids() == before


@pytest.mark.e2e
def test_end_of_another_loader_is_none_of_its_business(make_crew: MakeCrew) -> None:
    crew = make_crew(1).start()
    base = crew.fleet.rollout.current.base

    assert not crew.fleet.rollout.loader_ended(base, 0)
    assert crew.fleet.rollout.outcome.state == "done"


@pytest.mark.e2e
def test_code_after_one_that_was_given_up_has_a_number_of_its_own(
    make_crew: MakeCrew, project: Path
) -> None:
    crew = make_crew(1).start()
    good = (project / "app.py").read_text()
    (project / "app.py").write_text(ENDS)
    crew.fleet.rollout.begin()
    assert states_until_done(crew)[-1] == "failed"
    assert "did not become ready" in crew.fleet.rollout.outcome.problems[0]
    (project / "app.py").write_text(good)
    crew.fleet.rollout.begin()
    states_until_done(crew)

    assert crew.fleet.rollout.current.number == 3


@pytest.mark.e2e
def test_reload_that_was_asked_for_meanwhile_follows_a_refusal(
    make_crew: MakeCrew, project: Path
) -> None:
    crew = make_crew(1).start()
    good = (project / "app.py").read_text()
    (project / "app.py").write_text("import time\ntime.sleep(60)\n")
    crew.fleet.rollout.begin()
    (project / "app.py").write_text(good)
    crew.fleet.rollout.begin()
    for loader in crew.fleet._spawner.loaders.keys() - {
        crew.fleet.rollout.current.base
    }:
        loader.process.kill()
    crew.run_until(lambda: crew.fleet.rollout.outcome.state == "done")

    assert crew.fleet.rollout.current.number == 2


@pytest.mark.e2e
def test_program_that_cannot_be_started_is_the_first_failure(
    make_crew: MakeCrew, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_crew(1).config
    launcher = Launcher(config.workers, [], [str(tmp_path / "missing")])
    watcher = Watcher()
    spawner = Spawner(launcher, watcher)
    fleet = Fleet(config.workers, config.lifecycle, spawner, watcher, 1)
    fleet.rollout.begin()

    assert fleet.rollout.outcome.state == "failed"
    assert fleet.first_failure == 1
    message = own_records(caplog)[-1].message
    assert message.startswith("No process can be started")


HANGS = "import time\ntime.sleep(600)\n"


@pytest.mark.e2e
def test_loader_that_hangs_is_killed_and_the_next_reload_proceeds(
    make_crew: MakeCrew, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crew = make_crew(1, WORKER_START_TIMEOUT=20).start()
    before = crew.ids()
    good = (project / "app.py").read_text()
    (project / "app.py").write_text(HANGS)
    crew.fleet.rollout.begin()
    (hanging,) = crew.fleet._spawner.loaders.keys() - {crew.fleet.rollout.current.base}
    assert states_until_done(crew)[-1] == "failed"
    assert crew.ids() == before
    (problem,) = crew.fleet.rollout.outcome.problems
    assert "longer than WORKER_START_TIMEOUT, 20 seconds" in problem
    (project / "app.py").write_text(good)
    crew.fleet.rollout.begin()

    assert states_until_done(crew)[-1] == "done"
    crew.run_until(lambda: hanging.process.poll() is not None)
    errors = [r for r in own_records(caplog) if r.levelname == "ERROR"]
    assert len(errors) == 1
    assert problem in errors[0].message


@pytest.mark.e2e
def test_loader_that_hangs_at_the_first_start_is_the_first_failure(
    make_crew: MakeCrew, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (project / "app.py").write_text(HANGS)
    crew = make_crew(1, WORKER_START_TIMEOUT=1)
    crew.fleet.rollout.begin()
    states_until_done(crew)

    assert crew.fleet.first_failure == 1
    assert "WORKER_START_TIMEOUT, 1 seconds" in own_records(caplog)[-1].message


def test_generation_is_the_rollouts_and_numbers_go_up(make_troop: MakeTroop) -> None:
    troop = make_troop(1)
    assert troop.fleet.rollout.current.number == 0
    troop.start()

    assert troop.fleet.rollout.current.number == 1
    assert troop.fleet.rollout.outcome == RolloutOutcome("done", attempt=1)
    assert troop.fleet.notes == ["loader 100"]


def test_one_worker_is_replaced_after_the_other(make_troop: MakeTroop) -> None:
    troop = make_troop(2).start()
    old = troop.workers
    troop.fleet.rollout.begin()
    troop.load()
    steps: list[tuple[int, ...]] = []
    while troop.fleet.rollout.is_under_way:
        steps.append(tuple(worker.number for worker in troop.workers))
        troop.get_ready()
        for worker in troop.workers:
            if worker.state is WorkerState.STOPPING:
                troop.end_worker(worker)

    assert steps == [(1, 2, 3), (2, 3, 4)]
    assert [worker.generation for worker in troop.workers] == [2, 2]
    assert not set(troop.workers) & set(old)
    assert troop.spawner.started[0].has_quit


def test_next_is_the_first_of_old_code_that_does_not_end(make_troop: MakeTroop) -> None:
    troop = make_troop(3).start()
    rollout = troop.fleet.rollout
    rollout.begin()
    troop.spawner.started[-1].finish()
    first, second, third = troop.workers
    first.state = WorkerState.STOPPING
    assert rollout.next_to_replace([first, second, third]) is second
    assert rollout.next_to_replace([first, third]) is third
    assert rollout.outcome.state == "rolling"
    assert rollout.next_to_replace([first]) is None

    assert rollout.outcome.state == "done"


def test_without_a_rollout_there_is_none_to_replace(make_troop: MakeTroop) -> None:
    troop = make_troop(1).start()

    assert troop.fleet.rollout.next_to_replace(troop.workers) is None
    assert troop.fleet.rollout.outcome.attempt == 1


def test_new_worker_that_fails_brings_the_old_code_back(make_troop: MakeTroop) -> None:
    troop = make_troop(1).start()
    before = troop.fleet.rollout.current
    troop.fleet.rollout.begin()
    troop.load()
    broken = troop.workers[1]
    broken.tell(Failed(["no database"]))
    troop.turn()
    troop.end_worker(broken, 3)

    assert troop.fleet.rollout.current is before
    assert before.number == 2
    assert troop.fleet.rollout.outcome == RolloutOutcome("failed", ("no database",), 2)
    assert troop.spawner.started[1].has_quit
    assert [worker.number for worker in troop.workers] == [1]
    assert troop.fleet.first_failure is None


def test_refused_code_is_told_and_one_that_was_wanted_follows(
    make_troop: MakeTroop,
) -> None:
    troop = make_troop(1).start()
    rollout = troop.fleet.rollout
    assert rollout.begin() == 2
    assert rollout.begin() == 3
    refused = troop.spawner.started[-1]
    refused.problems = ["SyntaxError"]
    assert rollout.loader_ended(refused, 2)  # type: ignore[arg-type]

    assert rollout.outcome.describe() == {
        "state": "loading",
        "problems": [],
        "attempt": 3,
        "previous": {"state": "failed", "problems": ["SyntaxError"], "attempt": 2},
    }


def test_server_that_stops_begins_no_other(make_troop: MakeTroop) -> None:
    troop = make_troop(1).start()
    troop.fleet.rollout.begin()
    troop.fleet.rollout.begin()
    troop.fleet.stop()
    loader = troop.spawner.started[-1]
    troop.fleet.rollout.loader_ended(loader, 0)  # type: ignore[arg-type]

    assert len(troop.spawner.started) == 2
    assert not troop.fleet.rollout.is_under_way


def test_loader_that_cannot_be_started_leaves_the_old_workers(
    make_troop: MakeTroop,
) -> None:
    troop = make_troop(1).start()
    troop.spawner.is_broken = True
    troop.fleet.rollout.begin()

    assert troop.fleet.rollout.outcome.problems == (
        "No process can be started: no more processes",
    )
    assert len(troop.fleet.ready) == 1
    assert troop.fleet.first_failure is None
