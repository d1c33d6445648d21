"""What is told of workers: asked over real channels, read from real boards."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import djserve
from djserve.instrumentation.board import Figure
from djserve.supervisor import status as status_module
from djserve.supervisor.messages import WorkerState
from djserve.supervisor.processes import Worker
from djserve.supervisor.status import (
    FleetProbes,
    describe_fleet,
    describe_worker,
    render_figures,
)

MakeCrew = Callable[..., Any]

CALL = {"path": "/", "age": 1.5}


def test_worker_is_described_by_its_board(worker: Worker) -> None:
    worker.pid = os.getpid()
    worker.board.numbers[Figure.REQUESTS] = 12
    worker.board.numbers[Figure.WEBSOCKETS] = 3
    status = describe_worker(worker, worker.started_at + 5.04, [CALL])

    assert (status["number"], status["process"]) == (7, os.getpid())
    assert (status["requests"], status["websockets"]) == (12, 3)
    assert (status["age"], status["calls"]) == (5.0, [CALL])
    assert status["memory"] > 2**20


def test_only_a_worker_that_serves_can_be_blocked(worker: Worker) -> None:
    now = worker.started_at + 60
    assert describe_worker(worker, now, None)["blocked"] == 0.0
    worker.state = WorkerState.READY
    worker.ready_at = now - 2.5

    assert describe_worker(worker, now, None)["blocked"] == 2.5


@pytest.mark.e2e
def test_fleet_is_described_before_it_has_workers(make_crew: MakeCrew) -> None:
    status = describe_fleet(make_crew(2).fleet, os.getpid(), {})

    assert status["version"] == djserve.__version__
    assert (status["target"], status["generation"]) == (2, 0)
    assert status["reload"]["state"] == "none"
    assert status["workers"] == []


@pytest.mark.e2e
def test_fleet_is_described_with_its_workers(make_crew: MakeCrew) -> None:
    crew = make_crew(2).start()
    first = crew.fleet.workers[0]
    status = describe_fleet(crew.fleet, os.getpid(), {first.number: [CALL]})

    assert {worker["process"] for worker in status["workers"]} == crew.ids()
    assert [worker["calls"] for worker in status["workers"]] == [[CALL], None]


@pytest.mark.e2e
def test_figures_of_ended_workers_are_kept(make_crew: MakeCrew) -> None:
    pytest.importorskip("prometheus_client")
    fleet = make_crew(1).fleet
    before = render_figures(fleet)
    fleet.retired.numbers[Figure.BYTES_SENT] = 987654321

    assert b"9.87654321e+08" not in before
    assert b"9.87654321e+08" in render_figures(fleet)


@pytest.mark.e2e
def test_figures_are_written_down_by_the_supervisors_thread(
    make_crew: MakeCrew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_module, "REPORT_TIMEOUT", 120.0)
    pytest.importorskip("prometheus_client")
    probes = FleetProbes(make_crew(1).fleet)
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append(probes.metrics()))
    reader.start()
    while reader.is_alive():
        probes.turn()
        reader.join(0.01)

    assert b"djserve" in seen[0]


@pytest.mark.e2e
def test_fleet_is_ready_while_a_worker_serves(make_crew: MakeCrew) -> None:
    crew = make_crew(1)
    probes = FleetProbes(crew.fleet)
    seen = [probes.is_ready()]
    crew.start()
    probes.turn()
    seen.append(probes.is_ready())
    crew.fleet.stop()
    probes.turn()
    seen.append(probes.is_ready())

    assert seen == [False, True, False]
    assert probes.is_alive()


@pytest.mark.e2e
def test_threads_that_ask_together_are_answered_in_one_turn(
    make_crew: MakeCrew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_module, "REPORT_TIMEOUT", 120.0)
    crew = make_crew(1)
    probes = FleetProbes(crew.fleet)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(probes.figures) for _ in range(8)]
        while probes._asked < 8:
            time.sleep(0.001)
        probes.turn()

        figures = [future.result(60) for future in asked]
    assert figures[0]
    assert all(each is figures[0] for each in figures)
