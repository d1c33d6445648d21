"""Loaders, and the processes that they become or fork."""

from __future__ import annotations

import logging
import signal
import time
from typing import TYPE_CHECKING, Protocol

from djserve.server.launch import THREADS_TIMEOUT
from djserve.supervisor.messages import (
    CodeLoaded,
    Event,
    Failed,
    WorkerExited,
    WorkerForked,
    decode_event,
)
from djserve.supervisor.processes import Worker
from djserve.supervisor.replacement import KILL_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from djserve.supervisor.processes import Launcher, Loader
    from djserve.supervisor.rollout import Generation
    from djserve.supervisor.signals import Watcher


logger = logging.getLogger("djserve")

END_TIMEOUT = THREADS_TIMEOUT + 5.0
"""Seconds for a loader that is told to quit, once its workers have ended."""


class ProcessEvents(Protocol):
    """What processes are reported to: the fleet."""

    def process_known(self, number: int, pid: int, /) -> None: ...
    def process_ended(self, pid: int, code: int, /) -> None: ...
    def loader_ended(self, loader: Loader, code: int, /) -> None: ...


class Spawner:
    """Start loaders and find a process for each worker."""

    def __init__(self, launcher: Launcher, watcher: Watcher) -> None:
        self._launcher = launcher
        self._watcher = watcher
        self._events: ProcessEvents
        self.loaders: dict[Loader, Callable[[], None]] = {}

    def report_to(self, events: ProcessEvents) -> None:
        """Tell ``events`` of processes from now on; called before any is started."""
        self._events = events

    def make_worker(self, number: int, generation: int, now: float) -> Worker:
        """Return a worker that has no process yet."""
        return Worker(number, generation, now)

    @property
    def pids(self) -> set[int]:
        """The processes that were started here, and not forked by a loader."""
        return {loader.pid for loader in self.loaders}

    def start_loader(
        self, on_loaded: Callable[[], None], *, is_checked: bool = False
    ) -> Loader:
        """Start a loader; ``on_loaded`` is called once it has the application."""
        loader = self._launcher.start(is_checked=is_checked)
        loader.deadline = time.monotonic() + self._launcher.start_timeout
        self.loaders[loader] = on_loaded
        self._watcher.watch(loader.channel, lambda: self._hear(loader))
        return loader

    def place(self, worker: Worker, generation: Generation) -> None:
        """Find a process for a worker: a fork, or a separate one."""
        base = generation.base
        if base is None:
            loader = self.start_loader(
                lambda: self._become(worker, loader), is_checked=True
            )
            worker.loader = loader
            worker.pid = loader.pid
            # The worker's own deadline is that of its process.
            loader.deadline = None
        elif base.can_fork:
            base.fork(worker)
            worker.handed_over()
            worker.loader = base
        else:
            generation.base = None
            self._become(worker, base)

    def poll(self) -> None:
        """Look which loaders have ended."""
        for loader in list(self.loaders):
            code = loader.process.poll()
            if code is not None:
                # What it said before is known first.
                self._hear(loader)
                self._close(loader)
                del self.loaders[loader]
                self._events.loader_ended(loader, code)

    def quit(self) -> None:
        """Let every loader end, after its workers; one that still loads at once."""
        for loader in self.loaders:
            if not loader.is_loaded:
                loader.process.terminate()
                loader.deadline = time.monotonic() + END_TIMEOUT
            loader.quit()

    def kill(self) -> None:
        """End every loader this moment."""
        for loader in self.loaders:
            loader.kill()

    def tick(self, now: float, busy: Collection[Loader | None]) -> None:
        """End loaders whose time is up. Those in ``busy`` have workers to wait for."""
        for loader in list(self.loaders):
            loader.channel.flush()
            if loader.is_quitting and loader.is_loaded:
                self._limit_end(loader, now, is_busy=loader in busy)
            if loader.deadline is not None and now >= loader.deadline:
                loader.deadline = now + KILL_TIMEOUT
                self.give_up(loader)

    def give_up(self, loader: Loader) -> None:
        """End a loader that does not do what it should.

        One that still loads is taken for ended at once: a process that waits for a
        disk or a file server ends of SIGKILL only after that.
        """
        is_first, loader.is_killed = not loader.is_killed, True
        loader.kill()
        pid = loader.pid
        if loader.is_quitting and is_first:
            logger.error("The loader (process %d) is killed: it did not end", pid)
        elif not loader.is_loaded and is_first:
            loader.problems = [
                f"Loading the application took longer than WORKER_START_TIMEOUT, "
                f"{self._launcher.start_timeout:g} seconds; process {pid} is killed"
            ]
            self._events.loader_ended(loader, -signal.SIGKILL)

    @staticmethod
    def _limit_end(loader: Loader, now: float, *, is_busy: bool) -> None:
        if is_busy:
            loader.deadline = None
        elif loader.deadline is None:
            loader.deadline = now + END_TIMEOUT

    def _become(self, worker: Worker, loader: Loader) -> None:
        worker.loader = loader
        worker.pid = loader.pid
        loader.become(worker)
        worker.handed_over()

    def _hear(self, loader: Loader) -> None:
        if loader.channel.fileno() < 0:
            return
        try:
            messages = loader.channel.receive()
        except EOFError:
            self._close(loader)
            return
        for message in messages:
            self._take(loader, decode_event(message))

    def _take(self, loader: Loader, event: Event | None) -> None:
        match event:
            case CodeLoaded(obstacle, notes):
                loader.is_loaded = True
                loader.deadline = None
                loader.obstacle = obstacle
                loader.notes = notes
                self.loaders[loader]()
            case Failed(problems):
                loader.problems = problems
            case WorkerForked(number, pid):
                self._events.process_known(number, pid)
            case WorkerExited(pid, code):
                self._events.process_ended(pid, code)

    def _close(self, loader: Loader) -> None:
        self._watcher.forget(loader.channel)
        loader.close()
