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

from djserve.instrumentation.board import Field
from djserve.supervisor.processes import describe_end
from djserve.supervisor.worker import time_to_end, time_to_hear

pytestmark = pytest.mark.e2e

MakeCrew = Callable[..., Any]


def test_workers_are_forked_from_one_loader(make_crew: MakeCrew) -> None:
    crew = make_crew(2).start()

    assert len(crew.ids()) == 2
    assert len({worker.loader for worker in crew.fleet.workers}) == 1


def test_without_preload_each_worker_has_its_own_process(make_crew: MakeCrew) -> None:
    crew = make_crew(2, PRELOAD=False).start()

    assert len({worker.loader for worker in crew.fleet.workers}) == 2
    assert crew.fleet.current.base is None


def test_application_that_starts_a_thread_is_not_forked(
    make_crew: MakeCrew, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    thread = "import threading\nthreading.Thread(target=threading.Event().wait, "
    text = thread + "daemon=True, name='poller').start()\n"
    (project / "app.py").write_text(text + (project / "app.py").read_text())
    crew = make_crew(2).start()

    assert len({worker.loader for worker in crew.fleet.workers}) == 2
    assert any("threads (poller)" in message for message in caplog.messages)


def test_application_that_asks_for_the_loop_is_not_forked(
    make_crew: MakeCrew, project: Path
) -> None:
    text = "import asyncio\nloop = asyncio.get_event_loop()\n"
    (project / "app.py").write_text(text + (project / "app.py").read_text())
    crew = make_crew(1).start()

    assert crew.fleet.current.base is None


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


def test_killed_loader_leaves_its_workers_and_is_replaced_when_needed(
    make_crew: MakeCrew,
) -> None:
    crew = make_crew(2).start()
    before = crew.ids()
    crew.fleet.current.base.process.kill()
    crew.run_until(lambda: crew.fleet.current.base is None)
    assert crew.ids() == before
    os.kill(crew.fleet.ready[0].pid, signal.SIGKILL)
    crew.run_until(lambda: len(crew.ids() - before) == 1)


def test_reload_replaces_every_worker(make_crew: MakeCrew, project: Path) -> None:
    crew = make_crew(2).start()
    before = crew.ids()
    crew.fleet.rollout.begin()
    assert crew.fleet.rollout.is_under_way
    crew.run_until(lambda: crew.fleet.rollout.outcome["state"] == "done")
    crew.run_until(lambda: len(crew.fleet.workers) == 2)

    assert not crew.ids() & before


def test_reload_during_a_reload_follows_it(make_crew: MakeCrew) -> None:
    crew = make_crew(1).start()
    crew.fleet.rollout.begin()
    crew.fleet.rollout.begin()
    crew.run_until(lambda: crew.fleet.current.number == 3 and crew.fleet.is_complete)


def test_broken_code_is_refused_and_the_old_workers_stay(
    make_crew: MakeCrew, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crew = make_crew(2).start()
    before = crew.ids()
    (project / "app.py").write_text("def broken(:\n")
    crew.fleet.rollout.begin()
    crew.run_until(lambda: not crew.fleet.rollout.is_under_way)

    assert crew.ids() == before
    assert crew.fleet.rollout.outcome["state"] == "failed"
    assert "SyntaxError" in crew.fleet.rollout.outcome["problems"][0]
    assert any("the old workers stay" in message for message in caplog.messages)


def test_code_that_loads_but_does_not_start_is_given_up(
    make_crew: MakeCrew, project: Path
) -> None:
    crew = make_crew(2).start()
    before = crew.ids()
    text = (project / "app.py").read_text()
    ends = "import os\nasync def application(scope, receive, send):\n    os._exit(9)\n"
    (project / "app.py").write_text(ends)
    crew.fleet.rollout.begin()
    crew.run_until(lambda: crew.fleet.rollout.outcome["state"] == "failed")
    crew.run_until(lambda: not crew.fleet.rollout.is_under_way)
    assert crew.ids() == before
    (project / "app.py").write_text(text)
    crew.fleet.rollout.begin()
    crew.run_until(lambda: crew.fleet.rollout.outcome["state"] == "done")


def test_code_that_never_starts_ends_with_its_exit_code(
    make_crew: MakeCrew, project: Path
) -> None:
    (project / "app.py").write_text("raise RuntimeError('no')\n")
    crew = make_crew(1)
    crew.fleet.rollout.begin()
    crew.run_until(lambda: crew.fleet.first_failure is not None)

    assert crew.fleet.first_failure == 2


def test_number_of_workers_follows_the_target(make_crew: MakeCrew) -> None:
    crew = make_crew(1).start()
    crew.fleet.scale(3)
    crew.run_until(lambda: len(crew.ids()) == 3)
    crew.fleet.scale(0)
    crew.run_until(lambda: len(crew.fleet.workers) == 1)

    assert crew.fleet.target == 1


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


def test_loader_that_forks_no_worker_is_killed_and_another_does(
    make_crew: MakeCrew, caplog: pytest.LogCaptureFixture
) -> None:
    crew = make_crew(1, WORKER_START_TIMEOUT=10).start()
    stopped = crew.fleet.current.base
    os.kill(stopped.process.pid, signal.SIGSTOP)
    crew.fleet.scale(2)
    crew.run_until(lambda: len(crew.ids()) == 2)

    assert stopped.process.poll() == -signal.SIGKILL
    told = [m for m in caplog.messages if "it did not start in time" in m]
    assert len(told) == 1


IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("loading", "w").close()
time.sleep(600)
"""


def test_stopped_loader_does_not_outlive_its_fleet(
    make_crew: MakeCrew, project: Path
) -> None:
    crew = make_crew(1).start()
    loader = crew.fleet.current.base
    (project / "app.py").write_text(IGNORES_SIGTERM)
    crew.fleet.rollout.begin()
    (loading,) = crew.fleet._nursery.loaders.keys() - {loader}
    crew.run_until((project / "loading").exists)
    os.kill(loading.process.pid, signal.SIGSTOP)
    crew.fleet.stop()
    crew.run_until(crew.fleet.is_ended)

    assert loading.process.returncode == -signal.SIGKILL


def test_drain_lets_stopped_processes_run_on_and_end(
    make_crew: MakeCrew, caplog: pytest.LogCaptureFixture
) -> None:
    crew = make_crew(2).start()
    loader = crew.fleet.current.base
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


def test_worker_that_drains_has_the_time_for_the_lifespan_too(
    make_crew: MakeCrew,
) -> None:
    crew = make_crew(1, SHUTDOWN_TIMEOUT=5, LIFESPAN_TIMEOUT=600).start()
    (worker,) = crew.fleet.ready
    lifecycle = crew.config.lifecycle
    os.kill(worker.pid, signal.SIGSTOP)
    crew.fleet._stop(worker)
    worker.board.numbers[Field.IS_DRAINING] = 1
    crew.fleet.tick(worker.stopping_at + time_to_hear(lifecycle))
    crew.fleet.tick(worker.stopping_at + time_to_end(lifecycle) - 0.1)
    assert not worker.is_overdue
    crew.fleet.tick(worker.stopping_at + time_to_end(lifecycle))

    assert worker.is_overdue
