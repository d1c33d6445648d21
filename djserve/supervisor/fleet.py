"""The workers as a whole: kept at their number, replaced, renewed, stopped."""

# How the number of workers is kept
#
# ``tick`` compares what is wanted with what there is, and does one step towards it. No
# event starts a worker by itself. So whatever happens at the same time (a crash in the
# middle of a rollout, SIGHUP while a limit is reached, a new number of workers), the
# next tick starts from the facts. Its four steps, in this order:
#
# 1. ``_check``: what is past its deadline is killed, and SIGKILL is repeated until the
#    process has gone. A worker has one while it starts and while it stops. In between
#    its heartbeat is looked at (``replacement.check_loop``).
# 2. ``_recycle``: one worker that has reached a limit gets a replacement.
# 3. ``_renew``: one worker of old code gets a replacement.
# 4. ``_maintain``: what is missing is started, and what is too much is stopped.
#
# A replacement serves before the worker that it replaces is asked to end
# (``_worker_ready``), and there is one at a time: the number that serves does not fall,
# and a limit that all reach at once does not double the memory. A replacement does not
# count towards the number (``_maintain``). If it dies, the worker that it would have
# replaced is left as it was.
#
# The messages of a worker, those of its loader and the end of a process come in any
# order (``messages``). A worker that has been told to stop may only then become known
# by its process, and is sent the signal late. A channel that ends announces the end of
# its worker, but the exit status comes from the loader: it is waited for, up to
# EXIT_TIMEOUT, or as long as that loader lives.
#
# A worker that served for a while and then crashed is replaced at once, since the
# others need it. One that ends as soon as it starts is not: ``Backoff`` doubles the
# delay. And if none has ever served, there is nothing to preserve: the first failure is
# the server's own exit code, so that a container is seen to fail and not to wait.

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING

from djserve.conf.processes import LARGEST_COUNT
from djserve.instrumentation.board import Board
from djserve.server.launch import THREADS_TIMEOUT
from djserve.supervisor.messages import (
    CallsReported,
    Event,
    Failed,
    MetricsWanted,
    WorkerReady,
    WorkerState,
    decode_event,
    time_to_end,
    time_to_hear,
)
from djserve.supervisor.replacement import KILL_TIMEOUT, Backoff, Limits, check_loop
from djserve.supervisor.reports import Reports
from djserve.supervisor.rollout import Rollout
from djserve.supervisor.services import Services
from djserve.supervisor.system import describe_end

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.conf.schema import LifecycleConfig, WorkersConfig
    from djserve.supervisor.processes import Loader, Worker
    from djserve.supervisor.signals import Watcher
    from djserve.supervisor.spawner import Spawner

logger = logging.getLogger("djserve")

# Seconds for a worker's exit status after its channel has ended: by then its process
# has ended itself, however busy the machine is.
EXIT_TIMEOUT = THREADS_TIMEOUT + 5.0


class Fleet:
    """Keep ``target`` workers running. The supervisor calls ``tick`` all the time."""

    def __init__(
        self,
        config: WorkersConfig,
        lifecycle: LifecycleConfig,
        spawner: Spawner,
        watcher: Watcher,
        target: int,
        services: Services | None = None,
        *,
        render: Callable[[Fleet], bytes] = lambda fleet: b"",
        on_ready: Callable[[Worker], None] = lambda worker: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._lifecycle = lifecycle
        self._watcher = watcher
        self._spawner = spawner
        self._render = render
        self._on_ready = on_ready
        self._clock = clock
        spawner.report_to(self)
        self._backoff = Backoff()
        self._chance = random.Random()
        self._limits: dict[Worker, Limits] = {}
        self._ended_channels: dict[Worker, float] = {}
        self._count = 0
        self.workers: list[Worker] = []
        self.retired = Board()
        self.reports = Reports(clock)
        self.rollout = Rollout(spawner, self)
        self.services = services or Services()
        self.has_predecessor = False
        self.target = target
        self.restarts = 0
        self.first_failure: int | None = None
        self.has_served = False
        self.is_stopping = False
        self.loop_name = ""
        self.notes: list[str] = []

    # What the supervisor asks for.

    @property
    def is_complete(self) -> bool:
        """Whether all workers are ready."""
        return len(self.ready) >= self.target and not self.rollout.is_under_way

    @property
    def ready(self) -> list[Worker]:
        """The workers that serve."""
        return [w for w in self.workers if w.state is WorkerState.READY]

    @property
    def is_replacing(self) -> bool:
        """Whether a worker is being started instead of another."""
        return any(worker.replaces for worker in self.workers)

    @property
    def child_pids(self) -> set[int]:
        """The processes that were started here, and not forked by a loader."""
        return self._spawner.pids | self.services.pids

    def scale(self, target: int) -> None:
        """Change the number of workers."""
        self.target = min(max(1, target), LARGEST_COUNT)
        logger.info("The number of workers is now %d", self.target)

    def stop(self) -> None:
        """Ask every worker to drain; a second time to stop at once."""
        is_first = not self.is_stopping
        self.is_stopping = True
        self.rollout.stop()
        for worker in list(self.workers):
            if is_first and worker.state is WorkerState.STOPPING:
                # It drains since a reload, and would take this for the second time.
                worker.resume()
            else:
                self._stop(worker)
        self._spawner.quit()
        self.services.stop()

    def kill(self) -> None:
        """End every worker this moment."""
        for worker in self.workers:
            worker.kill()
        self._spawner.kill()
        self.services.kill()

    def signal_all(self, number: int) -> None:
        """Send a signal to every worker that is ready."""
        for worker in self.ready:
            worker.send_signal(number)

    def is_ended(self) -> bool:
        """Whether no process is left."""
        has_workers = self.workers or self._spawner.loaders
        return not has_workers and self.services.is_ended()

    def poll(self) -> None:
        """Look which processes have ended; called at SIGCHLD."""
        self._spawner.poll()
        self.services.poll()

    def tick(self, now: float) -> None:
        """Do what is due at the monotonic time ``now``."""
        for worker in list(self.workers):
            worker.channel.flush()
            self._check(worker, now)
        for worker, since in list(self._ended_channels.items()):
            if (
                now - since >= EXIT_TIMEOUT
                or worker.loader not in self._spawner.loaders
            ):
                worker.kill()
                self._worker_ended(worker, None)
        self._spawner.tick(now, {worker.loader for worker in self.workers})
        self.reports.tick(now)
        # Not before the application has proved to start.
        attempt = self.rollout.brought_in if self.has_served else 0
        self.services.tick(now, attempt, is_alone=not self.has_predecessor)
        if self.is_stopping:
            return
        self._recycle(now)
        self._renew()
        self._maintain(now)

    # Starting.

    def start_worker(self, replaces: Worker | None = None) -> None:
        """Start a worker of the current code, instead of another or as one more."""
        self._count += 1
        now = self._clock()
        generation = self.rollout.current
        worker = self._spawner.make_worker(self._count, generation.number, now)
        worker.replaces = replaces
        worker.deadline = now + self._config.worker_start_timeout
        self.workers.append(worker)
        self._watcher.watch(worker.channel, lambda: self._hear_worker(worker))
        try:
            self._spawner.place(worker, generation)
        except OSError as error:
            worker.problems = [f"No process can be started: {error}"]
            self._worker_ended(worker, None)

    # What processes tell.

    def _hear_worker(self, worker: Worker) -> None:
        try:
            messages = worker.channel.receive()
        except EOFError:
            self._watcher.forget(worker.channel)
            self._ended_channels[worker] = self._clock()
            return
        for message in messages:
            self._take(worker, decode_event(message))

    def _take(self, worker: Worker, event: Event | None) -> None:
        match event:
            case WorkerReady(pid, loop):
                self.loop_name = loop
                self._worker_ready(worker, pid)
            case Failed(problems):
                worker.problems = problems
            case MetricsWanted():
                worker.show_metrics(self._render(self).decode())
            case CallsReported(number, calls):
                self.reports.take(number, worker.number, calls)

    def _worker_ready(self, worker: Worker, pid: int) -> None:
        worker.pid = pid
        if worker.state is not WorkerState.STARTING:
            return
        worker.state = WorkerState.READY
        worker.ready_at = self._clock()
        worker.deadline = None
        self._limits[worker] = Limits.draw(self._config, self._chance)
        self.has_served = True
        logger.info("%s is ready", worker)
        # Before another one stops to take new connections.
        self._on_ready(worker)
        old, worker.replaces = worker.replaces, None
        if old is not None and old in self.workers:
            self._stop(old)

    def code_loaded(self, loader: Loader) -> None:
        """Start again: what the old code's workers came to counts no more."""
        self._backoff.reset()
        self.notes = loader.notes

    def code_refused(self, text: str, code: int) -> None:
        """Log why new code is not brought in; at the first start it is the end."""
        if self.is_stopping:
            # The loader was told to end.
            return
        if self.has_served:
            logger.error("The new code was refused, and the old workers stay: %s", text)
            return
        self.first_failure = 1 if code <= 0 else code
        logger.critical("%s", text)

    def process_known(self, number: int, pid: int) -> None:
        """Record a worker's process."""
        for worker in self.workers:
            if worker.number == number:
                worker.pid = pid
                if worker.state is WorkerState.STOPPING:
                    worker.terminate()

    def process_ended(self, pid: int, code: int) -> None:
        """Record the end of a worker's process."""
        for worker in list(self.workers):
            if worker.pid == pid:
                self._worker_ended(worker, code)

    def loader_ended(self, loader: Loader, code: int) -> None:
        """Record the end of a loader, or of a worker that was one."""
        if self.rollout.loader_ended(loader, code):
            return
        for worker in list(self.workers):
            if worker.pid == loader.pid:
                worker.problems = worker.problems or loader.problems
                self._worker_ended(worker, code)
        current = self.rollout.current
        if current.base is loader and not self.is_stopping:
            current.base = None
            logger.warning(
                "The loader %s; the next worker loads the code again",
                describe_end(code),
            )

    def _worker_ended(self, worker: Worker, code: int | None) -> None:
        if worker not in self.workers:
            return
        self.workers.remove(worker)
        self._limits.pop(worker, None)
        if self._ended_channels.pop(worker, None) is None:
            self._watcher.forget(worker.channel)
        for other in self.workers:
            if other.replaces is worker:
                other.replaces = None
        if worker.state is WorkerState.STOPPING:
            logger.info("%s has ended", worker)
        else:
            self._ended_unexpectedly(worker, code)
        self.retired.add_totals(worker.board)
        worker.close()

    def _ended_unexpectedly(self, worker: Worker, code: int | None) -> None:
        now = self._clock()
        served = 0.0 if worker.ready_at is None else now - worker.ready_at
        was_starting = worker.state is WorkerState.STARTING
        self.restarts += 1
        why = "".join(f": {problem}" for problem in worker.problems)
        logger.error("%s %s unexpectedly%s", worker, describe_end(code), why)
        if not self.has_served:
            self.first_failure = 1 if code is None or code <= 0 else code
        if was_starting and self.rollout.is_rolling:
            self.rollout.abandon(worker)
            return
        delay = self._backoff.worker_ended(served, now)
        if delay and self._backoff.is_storm:
            logger.critical(
                "Workers keep ending at once; the next starts in %g seconds", delay
            )

    # Watching.

    def _check(self, worker: Worker, now: float) -> None:
        if worker.deadline is not None and now >= worker.deadline:
            if worker.is_draining and not worker.is_extended:
                # Time for the lifespan is for a worker that gets there: one whose loop
                # has not even heard that it is to stop will not.
                worker.is_extended = True
                worker.resume()
                worker.deadline = worker.stopping_at + time_to_end(self._lifecycle)
                return
            self._kill_overdue(worker)
            worker.deadline = now + KILL_TIMEOUT
        if worker.state is WorkerState.READY:
            check_loop(worker, self._config, now)

    def _kill_overdue(self, worker: Worker) -> None:
        if not worker.is_overdue:
            worker.is_overdue = True
            logger.error("%s is killed: it did not %s in time", worker, _aim(worker))
        if worker.pid is not None:
            worker.kill()
        elif worker.loader is not None:
            # The loader has not even forked it: the channel ends with the loader.
            self._spawner.give_up(worker.loader)

    def _recycle(self, now: float) -> None:
        """Start a replacement for one worker that has reached a limit."""
        if self.rollout.is_rolling or self.is_replacing:
            return
        if self._backoff.wait(now):
            return
        for worker in self.ready:
            memory = 0
            if self._config.worker_max_memory is not None:
                memory = worker.memory()
            assert worker.ready_at is not None
            age = now - worker.ready_at
            reason = self._limits[worker].find_reason(worker.requests, age, memory)
            if reason:
                logger.info("%s is replaced: %s", worker, reason)
                self.start_worker(replaces=worker)
                return

    def _renew(self) -> None:
        """Start a worker of new code instead of one of the old."""
        if self.is_replacing:
            return
        old = self.rollout.next_to_replace(self.workers)
        if old is not None:
            self.start_worker(replaces=old)

    def _maintain(self, now: float) -> None:
        """Start what is missing, stop what is too much."""
        if not self.has_generation or self._backoff.wait(now):
            return
        present = [
            w
            for w in self.workers
            if w.state is not WorkerState.STOPPING and w.replaces is None
        ]
        for _ in range(self.target - len(present)):
            self.start_worker()
        for worker in present[: max(0, len(present) - self.target)]:
            self._stop(worker)

    @property
    def has_generation(self) -> bool:
        """Whether any code was ever loaded."""
        return self.rollout.current.number > 0

    def _stop(self, worker: Worker) -> None:
        if worker.state is not WorkerState.STOPPING:
            worker.stopping_at = now = self._clock()
            worker.deadline = now + time_to_hear(self._lifecycle)
        worker.tell_to_stop()
        worker.state = WorkerState.STOPPING


def _aim(worker: Worker) -> str:
    return "start" if worker.state is WorkerState.STARTING else "end"
