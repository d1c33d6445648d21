"""What the supervisor can tell of its workers, for metrics, health and the operator."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import djserve
from djserve.instrumentation.board import Figure
from djserve.instrumentation.figures import read_figures
from djserve.instrumentation.metrics import render
from djserve.supervisor.messages import Calls, WorkerState
from djserve.supervisor.reports import REPORT_TIMEOUT, CallsByWorker

if TYPE_CHECKING:
    from djserve.instrumentation.figures import Family
    from djserve.net.channel import Message
    from djserve.supervisor.fleet import Fleet
    from djserve.supervisor.processes import Worker
    from djserve.supervisor.services import Service


def render_figures(fleet: Fleet) -> bytes:
    """Return the metrics of all workers, those included that have ended."""
    return render(read_fleet(fleet))


def read_fleet(fleet: Fleet) -> list[Family]:
    """Return the figures of all workers, those included that have ended."""
    live = [(str(worker.number), worker.board) for worker in fleet.workers]
    processes = [
        (service.name, len(service.runs), service.restarts)
        for service in fleet.services.services
    ]
    return read_figures(live, fleet.retired, fleet.restarts, processes)


def describe_fleet(fleet: Fleet, supervisor: int, calls: CallsByWorker) -> Message:
    """Return the status as plain values; ``calls`` by the workers' numbers."""
    now = time.monotonic()
    return {
        "version": djserve.__version__,
        "supervisor": supervisor,
        "target": fleet.target,
        "restarts": fleet.restarts,
        "generation": fleet.rollout.current.number,
        "reload": fleet.rollout.outcome.describe(),
        "is_stopping": fleet.is_stopping,
        "workers": [
            describe_worker(worker, now, calls.get(worker.number))
            for worker in fleet.workers
        ],
        "processes": [
            describe_service(service, now) for service in fleet.services.services
        ],
    }


def describe_worker(worker: Worker, now: float, calls: Calls | None) -> Message:
    """Return one worker's part of the status; ``calls`` None: it did not answer."""
    numbers = worker.board.numbers
    is_ready = worker.state is WorkerState.READY
    return {
        "number": worker.number,
        "process": worker.pid,
        "state": worker.state.name.lower(),
        "generation": worker.generation,
        "age": round(now - worker.started_at, 1),
        "memory": worker.memory(),
        "blocked": round(worker.silence(now), 1) if is_ready else 0.0,
        "requests": numbers[Figure.REQUESTS],
        "connections": numbers[Figure.CONNECTIONS],
        "websockets": numbers[Figure.WEBSOCKETS],
        "in_flight": numbers[Figure.CALLS],
        "threads": {
            "computing": numbers[Figure.THREADS_RUNNING]
            - numbers[Figure.THREADS_WAITING],
            "waiting": numbers[Figure.THREADS_WAITING],
            "parked": numbers[Figure.THREADS_PARKED],
            "longest_wait": round(numbers[Figure.THREAD_WAIT] / 1e9, 3),
            "views": {
                view: {"threads": threads, "queued": queued}
                for view, (threads, queued) in worker.board.views().items()
            },
        },
        "thread_queue": numbers[Figure.THREADS_QUEUED],
        "limits": {
            setting: count for setting, count in worker.board.limits().items() if count
        },
        "calls": calls,
    }


def describe_service(service: Service, now: float) -> Message:
    """Return what there is of one entry of PROCESSES."""
    wait = service.backoff.wait(now)
    return {
        "name": service.name,
        "command": service.config.words,
        "target": service.target,
        "restarts": service.restarts,
        "is_failing": service.is_failing,
        "last_end": service.last_end,
        "next_start": round(wait, 1) if len(service.live) < service.target else 0.0,
        "running": [
            {
                "number": run.number,
                "process": run.process.pid,
                "state": "stopping" if run.is_stopping else "running",
                "generation": run.attempt,
                "age": round(now - run.started_at, 1),
                "memory": run.process.memory(),
            }
            for run in service.runs
        ],
    }


class FleetProbes:
    """The fleet for the threads that tell its metrics and health.

    The figures are written down by the supervisor's own thread; boards may be closed
    there at any time.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._told = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._figures: list[Family] = []
        self._is_ready = False

    def turn(self) -> None:
        """Write down what is known; called by the supervisor all the time."""
        fleet = self._fleet
        self._is_ready = bool(fleet.ready) and not fleet.is_stopping
        asked = self._asked
        if asked > self._answered:
            figures = read_fleet(fleet)
            with self._told:
                self._figures, self._answered = figures, asked
                self._told.notify_all()

    def figures(self) -> list[Family]:
        """Return the figures as they are now, or else the last ones.

        Threads that ask at the same time get the same ones.
        """
        with self._told:
            self._asked = mine = self._asked + 1
            self._told.wait_for(lambda: self._answered >= mine, REPORT_TIMEOUT)
            return self._figures

    def metrics(self) -> bytes:
        return render(self.figures())

    def is_alive(self) -> bool:
        return True

    def is_ready(self) -> bool:
        return self._is_ready
