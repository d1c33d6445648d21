"""The fleet, with real loaders and workers."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from djserve.instrumentation.board import Figure
from djserve.supervisor.fleet import EXIT_TIMEOUT
from djserve.supervisor.messages import (
    MetricsWanted,
    WorkerState,
    time_to_end,
    time_to_hear,
)
from djserve.supervisor.system import describe_end
from tests.supervisor.fakes import Troop

MakeCrew = Callable[..., Any]
MakeTroop = Callable[..., Troop]


@pytest.mark.e2e
def test_workers_are_forked_from_one_loader(make_crew: MakeCrew) -> None:
    crew = make_crew(2).start()

    assert len(crew.ids()) == 2
    assert len({worker.loader for worker in crew.fleet.workers}) == 1


@pytest.mark.e2e
def test_without_preload_each_worker_has_its_own_process(make_crew: MakeCrew) -> None:
    crew = make_crew(2, PRELOAD=False).start()

    assert len({worker.loader for worker in crew.fleet.workers}) == 2
    assert crew.fleet.rollout.current.base is None


@pytest.mark.e2e
def test_application_that_starts_a_thread_is_not_forked(
    make_crew: MakeCrew, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    thread = "import threading\nthreading.Thread(target=threading.Event().wait, "
    text = thread + "daemon=True, name='poller').start()\n"
    (project / "app.py").write_text(text + (project / "app.py").read_text())
    crew = make_crew(2).start()

    assert len({worker.loader for worker in crew.fleet.workers}) == 2
    assert any("threads (poller)" in message for message in caplog.messages)


@pytest.mark.e2e
def test_application_that_asks_for_the_loop_is_not_forked(
    make_crew: MakeCrew, project: Path
) -> None:
    text = "import asyncio\nloop = asyncio.get_event_loop()\n"
    (project / "app.py").write_text(text + (project / "app.py").read_text())
    crew = make_crew(1).start()

    assert crew.fleet.rollout.current.base is None


@pytest.mark.e2e
def test_killed_worker_is_replaced(
    make_crew: MakeCrew, caplog: pytest.LogCaptureFixture
) -> None:
    crew = make_crew(2).start()
    (victim, other) = crew.fleet.ready
    os.kill(victim.pid, signal.SIGKILL)
    crew.run_until(lambda: len(crew.ids() - {victim.pid, other.pid}) == 1)

    assert other.pid in crew.ids()
    assert crew.fleet.restarts == 1
    assert any("was ended by SIGKILL unexpectedly" in m for m in caplog.messages)


@pytest.mark.e2e
def test_killed_loader_leaves_its_workers_and_is_replaced_when_needed(
    make_crew: MakeCrew,
) -> None:
    crew = make_crew(2).start()
    before = crew.ids()
    crew.fleet.rollout.current.base.process.kill()
    crew.run_until(lambda: crew.fleet.rollout.current.base is None)
    assert crew.ids() == before
    os.kill(crew.fleet.ready[0].pid, signal.SIGKILL)
    crew.run_until(lambda: len(crew.ids() - before) == 1)


@pytest.mark.e2e
def test_reload_replaces_every_worker(make_crew: MakeCrew, project: Path) -> None:
    crew = make_crew(2).start()
    before = crew.ids()
    crew.fleet.rollout.begin()
    assert crew.fleet.rollout.is_under_way
    crew.run_until(lambda: crew.fleet.rollout.outcome.state == "done")
    crew.run_until(lambda: len(crew.fleet.workers) == 2)

    assert not crew.ids() & before


@pytest.mark.e2e
def test_reload_during_a_reload_follows_it(make_crew: MakeCrew) -> None:
    crew = make_crew(1).start()
    crew.fleet.rollout.begin()
    crew.fleet.rollout.begin()
    crew.run_until(
        lambda: crew.fleet.rollout.current.number == 3 and crew.fleet.is_complete
    )


@pytest.mark.e2e
def test_broken_code_is_refused_and_the_old_workers_stay(
    make_crew: MakeCrew, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crew = make_crew(2).start()
    before = crew.ids()
    (project / "app.py").write_text("def broken(:\n")
    crew.fleet.rollout.begin()
    crew.run_until(lambda: not crew.fleet.rollout.is_under_way)

    assert crew.ids() == before
    assert crew.fleet.rollout.outcome.state == "failed"
    assert "SyntaxError" in crew.fleet.rollout.outcome.problems[0]
    assert any("the old workers stay" in message for message in caplog.messages)


@pytest.mark.e2e
def test_code_that_loads_but_does_not_start_is_given_up(
    make_crew: MakeCrew, project: Path
) -> None:
    crew = make_crew(2).start()
    before = crew.ids()
    text = (project / "app.py").read_text()
    ends = "import os\nasync def application(scope, receive, send):\n    os._exit(9)\n"
    (project / "app.py").write_text(ends)
    crew.fleet.rollout.begin()
    crew.run_until(lambda: crew.fleet.rollout.outcome.state == "failed")
    crew.run_until(lambda: not crew.fleet.rollout.is_under_way)
    assert crew.ids() == before
    (project / "app.py").write_text(text)
    crew.fleet.rollout.begin()
    crew.run_until(lambda: crew.fleet.rollout.outcome.state == "done")


@pytest.mark.e2e
def test_code_that_never_starts_ends_with_its_exit_code(
    make_crew: MakeCrew, project: Path
) -> None:
    (project / "app.py").write_text("raise RuntimeError('no')\n")
    crew = make_crew(1)
    crew.fleet.rollout.begin()
    crew.run_until(lambda: crew.fleet.first_failure is not None)

    assert crew.fleet.first_failure == 2


@pytest.mark.e2e
def test_number_of_workers_follows_the_target(make_crew: MakeCrew) -> None:
    crew = make_crew(1).start()
    crew.fleet.scale(3)
    crew.run_until(lambda: len(crew.ids()) == 3)
    crew.fleet.scale(0)
    crew.run_until(lambda: len(crew.fleet.workers) == 1)

    assert crew.fleet.target == 1


@pytest.mark.e2e
def test_old_worker_is_replaced_before_it_ends(
    make_crew: MakeCrew, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "djserve")
    crew = make_crew(1, WORKER_MAX_AGE=1, WORKER_JITTER=0).start()
    before = crew.ids()
    seen: list[int] = []
    while not crew.ids() - before:
        crew.turn()
        seen.append(len(crew.ids()))

    assert min(seen) == 1
    assert any("is replaced: it is 1 seconds old" in m for m in caplog.messages)


@pytest.mark.e2e
def test_worker_that_does_not_become_ready_is_killed(
    make_crew: MakeCrew, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (project / "app.py").write_text(
        "import asyncio\n"
        "async def application(scope, receive, send):\n"
        "    await asyncio.sleep(60)\n"
    )
    crew = make_crew(1, WORKER_START_TIMEOUT=120)
    crew.fleet.rollout.begin()
    crew.run_until(lambda: crew.fleet.workers and crew.fleet.workers[0].pid)
    # The loader has had all the time that it needs.
    crew.fleet.workers[0].deadline = time.monotonic()
    crew.run_until(lambda: crew.fleet.first_failure is not None)

    assert any("it did not start in time" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("code", "phrase"),
    [
        (None, "ended"),
        (3, "ended with exit code 3"),
        (-9, "was ended by SIGKILL"),
        (-99, "was ended by signal 99"),
    ],
)
def test_end_of_a_process_is_put_into_words(code: int | None, phrase: str) -> None:
    assert describe_end(code) == phrase


@pytest.mark.e2e
def test_loader_that_forks_no_worker_is_killed_and_another_does(
    make_crew: MakeCrew, caplog: pytest.LogCaptureFixture
) -> None:
    crew = make_crew(1, WORKER_START_TIMEOUT=10).start()
    stopped = crew.fleet.rollout.current.base
    os.kill(stopped.process.pid, signal.SIGSTOP)
    crew.fleet.scale(2)
    crew.run_until(lambda: len(crew.ids()) == 2)

    assert stopped.process.poll() == -signal.SIGKILL
    # On a busy machine the next worker may be late as well, and be replaced in turn.
    told = [m for m in caplog.messages if "it did not start in time" in m]
    assert told[0].startswith("Worker 2 is killed:")


IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("loading", "w").close()
time.sleep(600)
"""


@pytest.mark.e2e
def test_stopped_loader_does_not_outlive_its_fleet(
    make_crew: MakeCrew, project: Path
) -> None:
    crew = make_crew(1).start()
    loader = crew.fleet.rollout.current.base
    (project / "app.py").write_text(IGNORES_SIGTERM)
    crew.fleet.rollout.begin()
    (loading,) = crew.fleet._spawner.loaders.keys() - {loader}
    crew.run_until((project / "loading").exists)
    os.kill(loading.process.pid, signal.SIGSTOP)
    crew.fleet.stop()
    crew.run_until(crew.fleet.is_ended)

    assert loading.process.returncode == -signal.SIGKILL


@pytest.mark.e2e
def test_drain_lets_stopped_processes_run_on_and_end(
    make_crew: MakeCrew, caplog: pytest.LogCaptureFixture
) -> None:
    crew = make_crew(2).start()
    loader = crew.fleet.rollout.current.base
    os.kill(crew.fleet.ready[0].pid, signal.SIGSTOP)
    os.kill(loader.process.pid, signal.SIGSTOP)
    crew.fleet.stop()
    crew.run_until(crew.fleet.is_ended)

    assert loader.process.returncode == 0
    assert not any("killed" in message for message in caplog.messages)


BLOCKS = """
import time
async def application(scope, receive, send):
    assert scope["type"] == "http"
    open("blocked", "w").close()
    time.sleep(600)
"""


@pytest.mark.e2e
def test_worker_that_does_not_hear_of_its_end_gets_no_time_for_the_lifespan(
    make_crew: MakeCrew, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (project / "app.py").write_text(BLOCKS)
    crew = make_crew(1, SHUTDOWN_TIMEOUT=5, LIFESPAN_TIMEOUT=600).start()
    (worker,) = crew.fleet.ready
    lifecycle = crew.config.lifecycle
    with socket.socket(fileno=os.dup(crew.sockets[0].fileno())) as listener:
        address = listener.getsockname()
    with socket.create_connection(address) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        crew.run_until((project / "blocked").exists)
    crew.fleet.stop()
    crew.fleet.tick(worker.stopping_at + time_to_hear(lifecycle) - 0.1)
    assert not worker.is_overdue
    crew.fleet.tick(worker.stopping_at + time_to_hear(lifecycle))
    crew.run_until(crew.fleet.is_ended)

    assert worker.is_overdue
    assert any("it did not end in time" in message for message in caplog.messages)


@pytest.mark.e2e
def test_worker_that_drains_has_the_time_for_the_lifespan_too(
    make_crew: MakeCrew,
) -> None:
    crew = make_crew(1, SHUTDOWN_TIMEOUT=5, LIFESPAN_TIMEOUT=600).start()
    (worker,) = crew.fleet.ready
    lifecycle = crew.config.lifecycle
    os.kill(worker.pid, signal.SIGSTOP)
    crew.fleet._stop(worker)
    worker.board.numbers[Figure.IS_DRAINING] = 1
    crew.fleet.tick(worker.stopping_at + time_to_hear(lifecycle))
    crew.fleet.tick(worker.stopping_at + time_to_end(lifecycle) - 0.1)
    assert not worker.is_overdue
    crew.fleet.tick(worker.stopping_at + time_to_end(lifecycle))

    assert worker.is_overdue


def test_missing_workers_are_started_at_the_next_tick(make_troop: MakeTroop) -> None:
    troop = make_troop(3).start()

    assert [worker.number for worker in troop.fleet.ready] == [1, 2, 3]
    assert troop.fleet.is_complete
    assert troop.fleet.loop_name == "uvloop"


def test_worker_that_has_served_is_replaced_at_once_by_the_clock(
    make_troop: MakeTroop,
) -> None:
    troop = make_troop(2).start()
    troop.turn(seconds=2)
    troop.end_worker(troop.workers[0], -9)

    assert [worker.number for worker in troop.workers] == [2, 3]
    assert troop.fleet.restarts == 1


def test_workers_that_end_at_once_wait_longer_and_longer(make_troop: MakeTroop) -> None:
    troop = make_troop(1).start()
    delays: list[float] = []
    for _ in range(4):
        troop.end_worker(troop.workers[0], 1)
        before = troop.now
        while not troop.workers:
            troop.turn(seconds=0.25)
        delays.append(troop.now - before)
        troop.get_ready()

    assert delays == [0.5, 1.0, 2.0, 4.0]


def test_worker_past_its_start_is_killed_again_and_again(make_troop: MakeTroop) -> None:
    troop = make_troop(1, WORKER_START_TIMEOUT=10)
    troop.fleet.rollout.begin()
    troop.load()
    (worker,) = troop.workers
    troop.turn(seconds=9.9)
    assert worker.signals == []
    troop.turn(seconds=0.2)
    troop.turn(seconds=1.1)

    assert worker.signals == ["kill", "kill"]


def test_worker_that_cannot_be_placed_ends_the_first_start(
    make_troop: MakeTroop,
) -> None:
    troop = make_troop(1)
    troop.fleet.rollout.begin()
    troop.spawner.is_broken = True
    troop.load()

    assert troop.fleet.first_failure == 1
    assert not troop.workers


def test_stop_tells_each_worker_and_then_the_loaders(make_troop: MakeTroop) -> None:
    troop = make_troop(2).start()
    workers = troop.workers
    troop.fleet.stop()
    troop.turn()

    assert [worker.orders() for worker in workers] == [["stop"], ["stop"]]
    assert troop.spawner.has_quit
    for worker in workers:
        troop.end_worker(worker)
    assert troop.fleet.is_ended()
    assert troop.fleet.restarts == 0


def test_stop_leaves_a_worker_that_drains_already_its_time(
    make_troop: MakeTroop,
) -> None:
    troop = make_troop(2).start()
    troop.fleet.scale(1)
    troop.turn()
    (leaving,) = [w for w in troop.workers if w.state is WorkerState.STOPPING]
    (staying,) = [w for w in troop.workers if w is not leaving]
    deadline = leaving.deadline
    troop.fleet.stop()
    troop.turn()

    assert leaving.orders() == ["stop"]
    assert staying.orders() == ["stop"]
    assert leaving.deadline == deadline

    troop.fleet.stop()
    troop.turn()

    assert leaving.orders() == ["stop"]
    assert staying.orders() == ["stop"]


def test_worker_that_is_asked_to_start_and_stop_gets_a_signal(
    make_troop: MakeTroop,
) -> None:
    troop = make_troop(1)
    troop.fleet.rollout.begin()
    troop.load()
    troop.fleet.stop()

    assert troop.workers[0].signals == ["resume", "terminate"]


def test_metrics_that_a_worker_asks_for_are_those_of_all(make_troop: MakeTroop) -> None:
    troop = make_troop(1).start()
    (worker,) = troop.workers
    worker.tell(MetricsWanted())
    troop.turn()

    assert worker.end.receive() == [{"command": "metrics", "text": "figures"}]


def test_message_of_another_version_changes_nothing(make_troop: MakeTroop) -> None:
    troop = make_troop(1).start()
    troop.workers[0].end.send({"event": "of a later version", "pid": 1})
    troop.turn()

    assert len(troop.fleet.ready) == 1


def test_channel_that_ends_without_an_exit_status_ends_the_worker_later(
    make_troop: MakeTroop,
) -> None:
    troop = make_troop(1).start()
    (worker,) = troop.workers
    troop.turn(seconds=2)
    worker.end.close()
    troop.turn()
    assert worker in troop.workers
    troop.turn(seconds=EXIT_TIMEOUT + 0.1)

    assert worker.signals[-1] == "kill"
    assert [other.number for other in troop.workers] == [2]


def test_age_is_a_limit_and_the_replacement_is_ready_first(
    make_troop: MakeTroop,
) -> None:
    troop = make_troop(1, WORKER_MAX_AGE=60, WORKER_JITTER=0).start()
    troop.turn(seconds=59)
    assert len(troop.workers) == 1
    troop.turn(seconds=1)
    old, new = troop.workers
    assert old.orders() == []
    troop.get_ready()

    assert old.orders() == ["stop"]
    assert new.replaces is None


def test_memory_is_a_limit(make_troop: MakeTroop) -> None:
    troop = make_troop(1, WORKER_MAX_MEMORY=2**20, WORKER_JITTER=0).start()
    troop.turn()

    assert len(troop.workers) == 2
