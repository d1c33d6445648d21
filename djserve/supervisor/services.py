"""The processes alongside the workers (PROCESSES): kept up, rolled, stopped.

It decides and starts nothing itself; ``commands`` has the processes. What happens to
one service changes nothing for another one, nor for the workers.

Without ``overlap`` there are never more processes of a service than its target, not
even while new code is brought in: a scheduler that ran twice would do everything twice,
and jobs wait in their queue for the moment that a task worker is away.
"""

# When a program is started, and when not
#
# A worker says when it is ready; any other program says nothing. Time has to stand for
# that. One that has run for SETTLED seconds is taken to work, and a rollout turns to
# the next. One that ran for SHORT_LIFE is started again at once when it ends; a shorter
# life delays the next start, twice as long each time. A program that ends by itself
# with 0 after that has not failed: task workers do so after a number of tasks.
#
# Programs start only when the application has proved to serve (``attempt`` is 0 until
# then), or each of them would log the mistake that the loader has just reported. They
# are replaced when a rollout has brought in its code, not while it tries to.
#
# ``overlap`` decides the order. With it a new process comes up before the old one is
# asked to end, one beyond the target. Without it the old one goes first, and its place
# is filled only when its process has ended: ``runs`` is counted, which has those that
# are still stopping, and not ``live``. While another supervisor runs the same programs
# (an upgrade), only those that may overlap are started.
#
# A program that keeps failing must not fill the log. The first failure of a row is
# logged, then only one that ends in another way, then once that it is a storm; its
# recovery is logged when all of its processes have run for SHORT_LIFE.

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from djserve.supervisor.replacement import KILL_TIMEOUT, Backoff
from djserve.supervisor.system import describe_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from djserve.conf.processes import ProcessConfig

logger = logging.getLogger("djserve")

SHORT_LIFE = 10.0
"""Seconds: a process that ran for longer is started again at once. More than a worker
has, since nothing tells when a program has come through its start."""

AT_ONCE = 8
"""The most that are started in one turn. A start takes the supervisor some 10 ms, in
which it does nothing else: a number that was mistyped must not keep it from hearing the
right one."""

SETTLED = 2.0
"""Seconds after which a new process is taken to work, if it still runs."""


class ServiceProcess(Protocol):
    """One process, as far as it is decided about."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def read(self) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...
    def memory(self) -> int: ...


class ServiceLauncher(Protocol):
    """What starts processes. Raises OSError if the system cannot."""

    @property
    def pids(self) -> set[int]: ...
    def start(self, config: ProcessConfig, name: str, /) -> ServiceProcess: ...


@dataclass(eq=False)
class Run:
    """One process of a service, with what was decided about it.

    ``attempt`` numbers the code that it was started with.
    """

    number: int
    attempt: int
    process: ServiceProcess
    started_at: float
    deadline: float | None = None
    is_stopping: bool = False


@dataclass(eq=False)
class Service:
    """One entry of PROCESSES: what is wanted, and what there is."""

    config: ProcessConfig
    target: int
    backoff: Backoff = field(default_factory=lambda: Backoff(SHORT_LIFE))
    runs: list[Run] = field(default_factory=list)
    restarts: int = 0
    last_end: str = ""
    is_failing: bool = False

    @property
    def name(self) -> str:
        """The key in PROCESSES."""
        return self.config.name

    @property
    def live(self) -> list[Run]:
        """The processes that are to stay."""
        return [run for run in self.runs if not run.is_stopping]

    def free_number(self) -> int:
        """Return the least number that no process has."""
        taken = {run.number for run in self.runs}
        return next(n for n in range(1, len(taken) + 2) if n not in taken)


class Services:
    """Keep what PROCESSES names running. The fleet calls ``tick`` all the time."""

    def __init__(
        self,
        configs: Sequence[ProcessConfig] = (),
        launcher: ServiceLauncher | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._launcher = launcher
        self._clock = clock
        self._attempt = 0
        self._is_stopping = False
        self.services = [Service(config, config.count) for config in configs]

    @property
    def pids(self) -> set[int]:
        """The processes that run, with those that the launcher needs."""
        own = set() if self._launcher is None else self._launcher.pids
        return own | {run.process.pid for run in self._runs()}

    def find(self, name: str) -> Service | None:
        """Return a service by its name."""
        for service in self.services:
            if service.name == name:
                return service
        return None

    def scale(self, service: Service, target: int) -> None:
        """Change the number of a service's processes; 0 stops all of them."""
        service.target = max(0, target)
        service.backoff.reset()
        logger.info("The number of %s is now %d", service.name, service.target)

    def stop(self) -> None:
        """Ask every process to end; a second time once more."""
        is_first = not self._is_stopping
        self._is_stopping = True
        for service in self.services:
            for run in service.runs:
                # One that ends since a reload would take this for the second time.
                if not (is_first and run.is_stopping):
                    self._stop(service, run)

    def kill(self) -> None:
        """End every process this moment."""
        for run in self._runs():
            run.process.kill()

    def is_ended(self) -> bool:
        """Whether no process is left."""
        return not any(service.runs for service in self.services)

    def poll(self) -> None:
        """Look which processes have ended; called at SIGCHLD."""
        for service in self.services:
            for run in list(service.runs):
                code = run.process.poll()
                if code is not None:
                    run.process.read()
                    run.process.close()
                    service.runs.remove(run)
                    self._ended(service, run, code)

    def tick(self, now: float, attempt: int, *, is_alone: bool = True) -> None:
        """Do what is due at the monotonic time ``now``.

        ``attempt`` numbers the newest code that has been brought in, 0 before any.
        ``is_alone`` is False while another supervisor runs the same processes.
        """
        if attempt > self._attempt:
            self._attempt = attempt
            for service in self.services:
                service.backoff.reset()
        for service in self.services:
            self._check_deadlines(service, now)
            if self._is_stopping or not self._attempt:
                continue
            if is_alone or service.config.overlap:
                self._maintain(service, now)
            self._note_recovery(service, now)

    # Numbers.

    def _maintain(self, service: Service, now: float) -> None:
        live = service.live
        old = [run for run in live if run.attempt < self._attempt]
        new = [run for run in live if run.attempt == self._attempt]
        is_settled = all(now - run.started_at >= SETTLED for run in new)
        if len(live) > service.target:
            self._stop_surplus(service, old, new, is_settled=is_settled)
        elif service.config.overlap:
            missing = service.target - len(live)
            # One beyond the target at a time takes the place of an old one.
            replacing = 1 if old and is_settled and not missing else 0
            self._start(service, missing + replacing, now)
        else:
            self._start(service, service.target - len(service.runs), now)
            if old and is_settled and len(live) == len(service.runs):
                self._stop(service, old[0])

    def _stop_surplus(
        self, service: Service, old: list[Run], new: list[Run], *, is_settled: bool
    ) -> None:
        surplus = len(old) + len(new) - service.target
        if service.config.overlap and old and new and not is_settled:
            # The new one must have come up before the old one goes.
            surplus -= 1
        for run in [*old, *reversed(new)][:surplus]:
            self._stop(service, run)

    def _start(self, service: Service, count: int, now: float) -> None:
        for _ in range(min(count, AT_ONCE)):
            if service.backoff.wait(now):
                return
            self._start_one(service, now)

    def _start_one(self, service: Service, now: float) -> None:
        number = service.free_number()
        name = f"{service.name} {number}"
        assert self._launcher is not None
        try:
            process = self._launcher.start(service.config, name)
        except OSError as error:
            self._failed(service, name, f"cannot be started: {error}", 0.0)
            return
        service.runs.append(Run(number, self._attempt, process, now))
        if not service.is_failing:
            logger.info(
                "%s is started (process %d): %s",
                name,
                process.pid,
                service.config.words,
            )

    # Ends.

    def _stop(self, service: Service, run: Run) -> None:
        if not run.is_stopping:
            run.is_stopping = True
            run.deadline = self._clock() + service.config.stop_timeout
        run.process.terminate()

    def _check_deadlines(self, service: Service, now: float) -> None:
        for run in service.runs:
            if run.deadline is not None and now >= run.deadline:
                logger.error(
                    "%s %d (process %d) is killed: it did not end in %g seconds",
                    service.name,
                    run.number,
                    run.process.pid,
                    service.config.stop_timeout,
                )
                run.process.kill()
                run.deadline = now + KILL_TIMEOUT

    def _ended(self, service: Service, run: Run, code: int) -> None:
        name = f"{service.name} {run.number} (process {run.process.pid})"
        how = describe_end(code)
        if run.is_stopping:
            logger.info("%s has ended", name)
            return
        service.restarts += 1
        lived = self._clock() - run.started_at
        if code == 0 and lived > SHORT_LIFE:
            # Such as a task worker that ends after so many tasks.
            logger.info("%s %s and is started again", name, how)
            return
        self._failed(service, name, how, lived)

    def _failed(self, service: Service, name: str, how: str, lived: float) -> None:
        """Hold the next start back; log the first of a row of failures, and a storm."""
        now = self._clock()
        was_failing, had_storm = service.is_failing, service.backoff.is_storm
        delay = service.backoff.worker_ended(lived, now)
        is_same, service.last_end = how == service.last_end, how
        service.is_failing = delay > 0
        if not delay:
            logger.error("%s %s unexpectedly and is started again", name, how)
        elif service.backoff.is_storm and not had_storm:
            logger.critical(
                "%s keeps ending at once: the last one %s; it is tried again in %g "
                "seconds, then with longer delays up to half a minute, without a line "
                "for each",
                service.name,
                how,
                delay,
            )
        elif not was_failing or not is_same:
            logger.error("%s %s; the next start is in %g seconds", name, how, delay)

    def _note_recovery(self, service: Service, now: float) -> None:
        if not service.is_failing or len(service.live) < service.target:
            return
        if all(now - run.started_at > SHORT_LIFE for run in service.live):
            service.is_failing = False
            service.backoff.reset()
            logger.info("%s runs again", service.name)

    def _runs(self) -> Iterator[Run]:
        for service in self.services:
            yield from service.runs
