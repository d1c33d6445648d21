"""From one generation of the code to the next, with real processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from djserve.supervisor.fleet import Fleet
from djserve.supervisor.processes import Launcher
from djserve.supervisor.watcher import Watcher
from tests.support.logs import own_records

pytestmark = pytest.mark.e2e

MakeCrew = Callable[..., Any]

ENDS = "import os\nasync def application(scope, receive, send):\n    os._exit(9)\n"


def states_until_done(crew: Any) -> list[str]:
    """Return the states that a rollout goes through, each once."""
    states: list[str] = []

    def is_done() -> bool:
        state = crew.fleet.rollout.outcome["state"]
        if state not in states:
            states.append(state)
        return state in ("done", "failed")

    crew.run_until(is_done)
    return states


def test_first_code_replaces_nothing(make_crew: MakeCrew) -> None:
    crew = make_crew(1)
    assert crew.fleet.rollout.outcome["state"] == "none"
    crew.fleet.rollout.begin()

    assert states_until_done(crew) == ["loading", "done"]
    assert not crew.fleet.rollout.is_under_way


def test_new_code_is_loaded_then_rolled_out(make_crew: MakeCrew) -> None:
    crew = make_crew(1).start()
    crew.fleet.rollout.begin()

    assert states_until_done(crew) == ["loading", "rolling", "done"]
    assert crew.fleet.current.number == 2
    assert {w.generation for w in crew.fleet.ready} == {2}


def test_loader_of_the_old_code_ends_after_the_rollout(make_crew: MakeCrew) -> None:
    crew = make_crew(1).start()
    old = crew.fleet.current.base
    crew.fleet.rollout.begin()
    states_until_done(crew)
    crew.run_until(lambda: old.process.poll() is not None)

    assert old.process.returncode == 0


def test_loader_killed_while_it_loads_leaves_the_old_workers(
    make_crew: MakeCrew, project: Path
) -> None:
    crew = make_crew(1).start()
    before = crew.ids()
    crew.fleet.rollout.begin()
    (loader,) = crew.fleet._nursery.loaders.keys() - {crew.fleet.current.base}
    loader.process.kill()
    states_until_done(crew)

    assert crew.fleet.rollout.outcome["problems"] == [
        "Loading the application was ended by SIGKILL"
    ]
    assert crew.ids() == before


def test_end_of_another_loader_is_none_of_its_business(make_crew: MakeCrew) -> None:
    crew = make_crew(1).start()
    base = crew.fleet.current.base

    assert not crew.fleet.rollout.loader_ended(base, 0)
    assert crew.fleet.rollout.outcome["state"] == "done"


def test_code_after_one_that_was_given_up_has_a_number_of_its_own(
    make_crew: MakeCrew, project: Path
) -> None:
    crew = make_crew(1).start()
    good = (project / "app.py").read_text()
    (project / "app.py").write_text(ENDS)
    crew.fleet.rollout.begin()
    assert states_until_done(crew)[-1] == "failed"
    assert "did not become ready" in crew.fleet.rollout.outcome["problems"][0]
    (project / "app.py").write_text(good)
    crew.fleet.rollout.begin()
    states_until_done(crew)

    assert crew.fleet.current.number == 3


def test_reload_that_was_asked_for_meanwhile_follows_a_refusal(
    make_crew: MakeCrew, project: Path
) -> None:
    crew = make_crew(1).start()
    good = (project / "app.py").read_text()
    (project / "app.py").write_text("import time\ntime.sleep(60)\n")
    crew.fleet.rollout.begin()
    (project / "app.py").write_text(good)
    crew.fleet.rollout.begin()
    for loader in crew.fleet._nursery.loaders.keys() - {crew.fleet.current.base}:
        loader.process.kill()
    crew.run_until(lambda: crew.fleet.rollout.outcome["state"] == "done")

    assert crew.fleet.current.number == 2


def test_program_that_cannot_be_started_is_the_first_failure(
    make_crew: MakeCrew, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_crew(1).config
    launcher = Launcher(config.workers, [], [str(tmp_path / "missing")])
    fleet = Fleet(config, launcher, Watcher(), 1)
    fleet.rollout.begin()

    assert fleet.rollout.outcome["state"] == "failed"
    assert fleet.first_failure == 1
    message = own_records(caplog)[-1].message
    assert message.startswith("No process can be started")


HANGS = "import time\ntime.sleep(600)\n"


def test_loader_that_hangs_is_killed_and_the_next_reload_proceeds(
    make_crew: MakeCrew, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crew = make_crew(1, WORKER_START_TIMEOUT=20).start()
    before = crew.ids()
    good = (project / "app.py").read_text()
    (project / "app.py").write_text(HANGS)
    crew.fleet.rollout.begin()
    (hanging,) = crew.fleet._nursery.loaders.keys() - {crew.fleet.current.base}
    assert states_until_done(crew)[-1] == "failed"
    assert crew.ids() == before
    (problem,) = crew.fleet.rollout.outcome["problems"]
    assert "longer than WORKER_START_TIMEOUT, 20 seconds" in problem
    (project / "app.py").write_text(good)
    crew.fleet.rollout.begin()

    assert states_until_done(crew)[-1] == "done"
    crew.run_until(lambda: hanging.process.poll() is not None)
    errors = [r for r in own_records(caplog) if r.levelname == "ERROR"]
    assert len(errors) == 1
    assert problem in errors[0].message


def test_loader_that_hangs_at_the_first_start_is_the_first_failure(
    make_crew: MakeCrew, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (project / "app.py").write_text(HANGS)
    crew = make_crew(1, WORKER_START_TIMEOUT=1)
    crew.fleet.rollout.begin()
    states_until_done(crew)

    assert crew.fleet.first_failure == 1
    assert "WORKER_START_TIMEOUT, 1 seconds" in own_records(caplog)[-1].message
