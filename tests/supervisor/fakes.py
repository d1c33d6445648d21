"""A spawner without processes: what it is asked for is remembered."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from djserve.conf.parser import parse
from djserve.net.channel import Channel
from djserve.supervisor.fleet import Fleet
from djserve.supervisor.messages import Event, WorkerReady, WorkerState, encode_event
from djserve.supervisor.processes import Worker
from djserve.supervisor.signals import Watcher

if TYPE_CHECKING:
    from djserve.supervisor.rollout import Generation
    from djserve.supervisor.spawner import ProcessEvents


class FakeLoader:
    """A loader that has no process."""

    def __init__(self, pid: int, on_loaded: Callable[[], None]) -> None:
        self.pid = pid
        self.obstacle = ""
        self.is_obstacle_unexpected = True
        self.notes: list[str] = [f"loader {pid}"]
        self.problems: list[str] = []
        self.has_quit = False
        self.finish = on_loaded

    def quit(self) -> None:
        self.has_quit = True


class FakeWorker(Worker):
    """A worker whose process is the test; ``signals`` is what it has got."""

    def __init__(self, number: int, generation: int, now: float) -> None:
        super().__init__(number, generation, now)
        self.signals: list[str] = []
        self.end = Channel.adopt(os.dup(self._theirs.fileno()))
        self.handed_over()

    def tell(self, event: Event) -> None:
        self.end.send(encode_event(event))

    def orders(self) -> list[Any]:
        """Return the orders that have come."""
        return [message["command"] for message in self.end.receive()]

    def close(self) -> None:
        self.end.close()
        super().close()

    def kill(self) -> None:
        self.signals.append("kill")

    def terminate(self) -> None:
        self.signals.append("terminate")

    def resume(self) -> None:
        self.signals.append("resume")

    def send_signal(self, number: int) -> None:
        self.signals.append(str(int(number)))

    def memory(self) -> int:
        return 2**20


class FakeSpawner:
    """Make loaders and workers that the test moves on."""

    def __init__(self) -> None:
        self.loaders: dict[Any, Callable[[], None]] = {}
        self.started: list[FakeLoader] = []
        self.placed: list[FakeWorker] = []
        self.given_up: list[object] = []
        self.is_broken = False
        self.has_quit = False

    def report_to(self, events: ProcessEvents) -> None:
        self.events = events

    @property
    def pids(self) -> set[int]:
        return {loader.pid for loader in self.loaders}

    def start_loader(self, on_loaded: Callable[[], None]) -> Any:
        if self.is_broken:
            raise OSError("no more processes")
        loader = FakeLoader(100 + len(self.started), on_loaded)
        self.started.append(loader)
        self.loaders[loader] = on_loaded
        return loader

    def make_worker(self, number: int, generation: int, now: float) -> FakeWorker:
        return FakeWorker(number, generation, now)

    def place(self, worker: FakeWorker, generation: Generation) -> None:
        if self.is_broken:
            raise OSError("no more processes")
        worker.loader = generation.base
        self.placed.append(worker)
        self.events.process_known(worker.number, 1000 + worker.number)

    def poll(self) -> None:
        """Nothing ends by itself."""

    def quit(self) -> None:
        self.has_quit = True
        self.loaders.clear()

    def kill(self) -> None:
        self.loaders.clear()

    def tick(self, now: float, busy: object) -> None:
        """Nothing has a deadline."""

    def give_up(self, loader: object) -> None:
        self.given_up.append(loader)


class Troop:
    """A fleet of fakes, and its clock."""

    def __init__(self, target: int, **settings: object) -> None:
        self.now = 1000.0
        self.spawner = FakeSpawner()
        self.watcher = Watcher()
        self.config = parse(settings)
        self.fleet = Fleet(
            self.config.workers,
            self.config.lifecycle,
            self.spawner,  # type: ignore[arg-type]
            self.watcher,
            target,
            render=lambda fleet: b"figures",
            clock=lambda: self.now,
        )

    @property
    def workers(self) -> list[FakeWorker]:
        return [w for w in self.fleet.workers if isinstance(w, FakeWorker)]

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, then do what is due."""
        self.now += seconds
        self.watcher.run(0)
        self.fleet.tick(self.now)

    def load(self) -> None:
        """Have the newest loader finish."""
        self.spawner.started[-1].finish()
        self.turn()

    def get_ready(self) -> None:
        """Have all starting workers become ready."""
        for worker in self.workers:
            if worker.state is WorkerState.STARTING:
                worker.tell(WorkerReady(1000 + worker.number, "uvloop"))
        self.turn()

    def start(self) -> Troop:
        """Have code loaded and all workers ready."""
        self.fleet.rollout.begin()
        self.load()
        self.get_ready()
        return self

    def close(self) -> None:
        """Close what the workers have open."""
        for worker in self.workers:
            worker.close()
        self.fleet.retired.close()

    def end_worker(self, worker: FakeWorker, code: int = 0) -> None:
        """Have a worker's process end."""
        assert worker.pid is not None
        worker.end.close()
        self.fleet.process_ended(worker.pid, code)
        self.turn()
