"""The supervisor's loop: signals, processes and time, one thing after the other."""

# One thing after the other
#
# A supervisor that fails takes the site with it, so it does as little as it can. It has
# no event loop and no code of the project. All that happens (a signal, a message, the
# end of a process, a question of the operator) is something to read for one ``select``
# (``Watcher``), and time is looked at every TICK. A signal handler only queues its
# number: the action runs between two turns, so it never meets a half-done step of
# another.
#
# The order of the start matters. Packages that the configuration needs are required
# first, then the sockets are bound, and only then is code loaded: what is wrong with
# the machine is found before any code runs, and reported by the exit code. The sockets
# belong to this process and are inherited, so connections that arrive during a reload,
# or while all workers are dead, wait in the kernel's queue.
#
# Time in which the supervisor itself did not run (SIGSTOP, a suspended machine) is held
# against no worker. After such a gap one turn is skipped, with the deadlines and
# heartbeats that are looked at in it, so that the workers run first.
#
# An upgrade (SIGUSR2) starts another supervisor as a child, with the same sockets. Each
# of the two stays able to serve until the other has proved something: the successor
# ends its predecessor when all of its workers are ready, and one that ends, or is not
# ready in time, leaves everything as it was. The file of a Unix socket is removed by
# the last one alone.
#
# As process 1 of a container it also adopts processes whose parents have ended. It
# reaps them, and only them: waiting for any child at all would take an exit code that
# another part of this process is waiting for.

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from djserve.conf.processes import describe_processes
from djserve.errors import ListenError
from djserve.instrumentation.fan_out import reopen_log_files
from djserve.instrumentation.logging import configure
from djserve.instrumentation.metrics import require_client
from djserve.instrumentation.otel import require_tracing
from djserve.net.binding import BoundSocket, bind_all, find_ids, use_descriptors
from djserve.server.banner import describe_bounds, start_lines
from djserve.server.launch import open_renewal, pid_file, uses_django
from djserve.server.lifecycle import ExitCode
from djserve.server.probes import ProbeServer
from djserve.server.publishing import Publisher, open_sinks
from djserve.supervisor.commands import CommandLauncher
from djserve.supervisor.control import ControlServer
from djserve.supervisor.datagrams import DatagramSockets
from djserve.supervisor.fleet import Fleet
from djserve.supervisor.inheritance import (
    Inheritance,
    count_workers,
    explain_workers,
)
from djserve.supervisor.messages import STOP_MARGIN
from djserve.supervisor.processes import Launcher, start_successor
from djserve.supervisor.reloading import Reloader
from djserve.supervisor.services import Services
from djserve.supervisor.signals import SignalQueue, Watcher
from djserve.supervisor.spawner import Spawner
from djserve.supervisor.status import FleetProbes, read_fleet, render_figures
from djserve.supervisor.system import describe_end, reap_others, set_title
from djserve.supervisor.systemd import Notifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from djserve.acme.renewal import Renewal
    from djserve.conf.schema import ServerConfig
    from djserve.server.publishing import Sink
    from djserve.supervisor.processes import Worker

logger = logging.getLogger("djserve")

TICK = 0.1
"""Seconds between looks at the clock."""

PAUSE = 1.0
"""Seconds between two turns after which the supervisor itself was stopped: nothing
that it has not seen may be held against its workers."""


class Arbiter:
    """Bind the sockets, keep the workers running, obey the signals."""

    def __init__(self, config: ServerConfig, inheritance: Inheritance | None) -> None:
        self._inheritance = inheritance
        self._predecessor = None if inheritance is None else inheritance.predecessor
        if inheritance is not None:
            bind, redirect = use_descriptors(
                config.bind,
                config.redirect,
                inheritance.sockets,
                inheritance.redirecting,
            )
            if not inheritance.redirecting:
                # The predecessor may have had none.
                redirect = config.redirect
            config = replace(config, bind=bind, redirect=redirect)
        self._config = config
        self._watcher = Watcher()
        self._notifier = Notifier()
        self._sockets: list[BoundSocket] = []
        self._datagrams: DatagramSockets | None = None
        self._successor: subprocess.Popen[bytes] | None = None
        self._successor_deadline: float | None = None
        self._renewal: Renewal | None = None
        self._control: ControlServer | None = None
        self._probes: FleetProbes | None = None
        self._sinks: list[Sink] = []
        self._stops = 0
        self._is_announced = False
        self._has_started = False
        self._last_turn = time.monotonic()

    def run(self, set_up_logging: Callable[[], None] = lambda: None) -> ExitCode:
        """Serve until a signal ends it; return how the process ends.

        Raises ConfigError if a package is missing that the configuration needs.
        """
        with SignalQueue() as signals:
            # A failure of the project's logging is told on standard error.
            configure(self._config.logging, django=uses_django())
            set_up_logging()
            configure(self._config.logging, django=uses_django())
            return self._supervise(signals)

    def _supervise(self, signals: SignalQueue) -> ExitCode:
        # Nobody is to be let in and then turned away for want of a package.
        require_client(self._config.metrics)
        self._sinks = open_sinks(self._config.metrics)
        if self._config.tracing.tracing:
            require_tracing()
        self._renewal = open_renewal(self._config.acme, self._config.workers)
        try:
            self._sockets = self._bind()
            self._datagrams = self._prepare_datagrams()
        except ListenError as error:
            logger.critical("%s", error)
            return ExitCode.LISTEN_FAILED
        self._adopt_files()
        set_title("supervisor")
        commands = CommandLauncher(self._config.workers, self._watcher)
        launcher = Launcher(
            self._config.workers,
            [sock.fileno() for sock in self._sockets],
            redirecting=self._redirecting,
        )
        self._fleet = Fleet(
            self._config.workers,
            self._config.lifecycle,
            Spawner(launcher, self._watcher),
            self._watcher,
            count_workers(self._config.workers.workers),
            Services(self._config.processes.processes, commands),
            render=render_figures,
            on_ready=self._worker_ready,
        )
        try:
            with pid_file(self._config.lifecycle.pid_file), self._open_windows():
                return self._run(signals)
        except ListenError as error:
            logger.critical("%s", error)
            return ExitCode.LISTEN_FAILED
        finally:
            commands.close()
            for sock in self._sockets:
                sock.close(keep_file=self._successor is not None)
            if self._datagrams is not None and not self._has_relatives:
                self._datagrams.remove_folder()

    def _bind(self) -> list[BoundSocket]:
        config = self._config
        tls = config.tls.certfile is not None
        return bind_all(config.bind, config.redirect, config.unix_sockets, tls=tls)

    def _prepare_datagrams(self) -> DatagramSockets | None:
        """Return what the workers' UDP sockets come from. Raises ListenError."""
        config, inheritance = self._config, self._inheritance
        if not config.http3.http3:
            return None
        addresses = [
            sock.address
            for sock in self._sockets
            if sock.port is not None and not sock.redirects
        ]
        owner = find_ids(f"{config.workers.user or ''}:{config.workers.group or ''}")
        folder = "" if inheritance is None else inheritance.folder
        try:
            return DatagramSockets(addresses, owner, folder)
        except ListenError:
            for sock in self._sockets:
                sock.close(keep_file=inheritance is not None)
            raise

    def _worker_ready(self, worker: Worker) -> None:
        if self._datagrams is not None:
            self._datagrams.hand_out(worker)

    @property
    def _has_relatives(self) -> bool:
        """Whether another supervisor serves the same addresses."""
        return self._successor is not None or self._predecessor is not None

    @property
    def _redirecting(self) -> tuple[int, ...]:
        return tuple(sock.fileno() for sock in self._sockets if sock.redirects)

    def _adopt_files(self) -> None:
        if self._inheritance is None:
            return
        # Addresses that the predecessor did not have come last.
        for number, sock in zip(self._inheritance.sockets, self._sockets, strict=False):
            if number in self._inheritance.owned:
                sock.own_file()
            # bind_all() has made a copy; only that is to be open.
            os.close(number)

    @contextmanager
    def _open_windows(self) -> Iterator[None]:
        """Let the operator and the monitoring look in: control socket and metrics."""
        with ExitStack() as stack:
            if self._renewal is not None:
                stack.callback(self._renewal.close)
            path = self._config.workers.control_socket
            if path is not None:
                self._control = ControlServer(
                    path,
                    self._fleet,
                    self._watcher,
                    reload=self._reload,
                    drain=self._stop,
                )
                stack.callback(self._control.close)
            workers = self._config.workers
            if workers.reload:
                stack.callback(Reloader(workers.reload_paths).close)
            self._show_figures(stack)
            yield

    def _show_figures(self, stack: ExitStack) -> None:
        """Answer who asks for metrics, and send them to who is to have them."""
        metrics = self._config.metrics
        self._probes = FleetProbes(self._fleet)
        if metrics.metrics_bind is not None:
            stack.callback(ProbeServer(metrics.metrics_bind, self._probes).close)
        if self._sinks:
            publisher = Publisher(self._sinks, self._probes.figures)
            stack.callback(lambda: publisher.close(read_fleet(self._fleet)))
            publisher.start()

    def _run(self, signals: SignalQueue) -> ExitCode:
        self._watcher.watch(signals, lambda: self._handle(signals))
        self._fleet.rollout.begin()
        while not self._is_over():
            self._turn()
        if self._fleet.first_failure is not None:
            return _exit_code(self._fleet.first_failure)
        return ExitCode.OK

    def _is_over(self) -> bool:
        if self._fleet.first_failure is not None and not self._stops:
            self._stop()
        return self._stops > 0 and self._fleet.is_ended()

    def _turn(self) -> None:
        self._watcher.run(TICK)
        if self._probes is not None:
            self._probes.turn()
        if self._control is not None:
            self._control.turn()
        now = time.monotonic()
        gap, self._last_turn = now - self._last_turn, now
        if gap > PAUSE:
            return
        if self._predecessor is not None and os.getppid() != self._predecessor:
            self._predecessor = None
        self._fleet.has_predecessor = self._predecessor is not None
        self._fleet.tick(now)
        self._check_successor(now)
        self._notifier.alive(now)
        if self._renewal is not None and self._has_started and not self._stops:
            self._renewal.tick(now)
        if not self._is_announced and self._fleet.is_complete and not self._stops:
            self._announce()

    def _announce(self) -> None:
        """Tell that all workers are ready, after the start and after each reload."""
        self._is_announced = True
        count = self._fleet.target
        workers = "1 worker" if count == 1 else f"{count} workers"
        if not self._has_started:
            self._has_started = True
            places = [sock.place for sock in self._sockets if not sock.redirects]
            why = explain_workers(self._config.workers.workers)
            supervisor = f"Supervisor {os.getpid()}, {workers}{why}"
            notes = [*self._fleet.notes, supervisor]
            processes = self._config.processes.processes
            if processes:
                text = ", ".join(describe_processes(processes))
                notes.append(f"Processes alongside the workers: {text}")
            if count > 1:
                notes.append(describe_bounds(self._config.bounds, count))
            for line in start_lines(
                places,
                self._fleet.loop_name,
                notes,
                http2=self._config.http2.http2,
                http3=self._config.http3.http3,
                tls=self._config.tls.certfile is not None,
                access_log=self._config.logging.access_log,
            ):
                logger.info("%s", line)
        self._notifier.ready(workers)
        if self._inheritance is not None:
            self._inheritance.end_predecessor()
            self._inheritance = None

    # Signals.

    def _handle(self, signals: SignalQueue) -> None:
        for number in signals.take():
            self._actions[number](self)

    def _stop(self) -> None:
        """Drain; the second time stop at once, the third time kill."""
        self._stops += 1
        if self._stops == 1:
            logger.info("Stopping")
            self._notifier.stopping()
            # Workers have copies of their own; with the last of these, connections
            # are refused.
            for sock in self._sockets:
                sock.close(keep_file=self._successor is not None)
        elif self._stops == 2:
            logger.info("Stopping at once")
        else:
            logger.warning("Killing the workers")
            self._fleet.kill()
        self._fleet.stop()

    def _quit(self) -> None:
        """Stop at once: what two stops do, each of which the workers count."""
        if not self._stops:
            self._stop()
        self._stop()

    def _reload(self) -> int | None:
        """Load the new code and replace the workers one by one.

        Returns the attempt's number, None if the server is stopping.
        """
        if self._stops:
            return None
        logger.info("Reloading")
        self._notifier.reloading()
        self._is_announced = False
        return self._fleet.rollout.begin()

    def _reopen(self) -> None:
        """Let every process reopen its log files."""
        reopen_log_files()
        self._fleet.signal_all(signal.SIGUSR1)

    def _upgrade(self) -> None:
        """Start another supervisor, which takes over once its workers are ready."""
        if self._stops or self._successor is not None:
            return
        numbers = tuple(sock.fileno() for sock in self._sockets)
        owned = tuple(sock.fileno() for sock in self._sockets if sock.owns_file)
        folder = "" if self._datagrams is None else self._datagrams.folder
        inheritance = Inheritance(
            os.getpid(), numbers, owned, self._redirecting, folder
        )
        logger.info("Starting a successor")
        environment = inheritance.to_environment() | self._notifier.environment()
        try:
            self._successor = start_successor(numbers, environment)
        except OSError as error:
            logger.error("No successor can be started; serving on: %s", error)
            return
        start_timeout = self._config.workers.worker_start_timeout
        # It loads the application, then starts its workers.
        deadline = time.monotonic() + 2 * start_timeout + STOP_MARGIN
        self._successor_deadline = deadline

    def _check_successor(self, now: float) -> None:
        deadline, successor = self._successor_deadline, self._successor
        if deadline is None or successor is None or now < deadline or self._stops:
            return
        self._successor_deadline = None
        logger.error("The successor is killed: it did not take over in time")
        successor.kill()

    def _add_worker(self) -> None:
        if not self._stops:
            self._fleet.scale(self._fleet.target + 1)

    def _remove_worker(self) -> None:
        if not self._stops:
            self._fleet.scale(self._fleet.target - 1)

    def _child_ended(self) -> None:
        self._fleet.poll()
        successor = self._successor
        if successor is not None and successor.poll() is not None:
            self._successor = None
            self._successor_deadline = None
            logger.error(
                "The successor ended with %d; serving on", successor.returncode
            )
        self._reap_orphans()

    def _reap_orphans(self) -> None:
        """Reap what this process has adopted: as process 1 of a container, say."""
        own = self._fleet.child_pids
        if self._successor is not None:
            own.add(self._successor.pid)
        if self._renewal is not None and self._renewal.pid is not None:
            own.add(self._renewal.pid)
        for pid, code in reap_others(own):
            logger.debug("Process %d, adopted, %s", pid, describe_end(code))

    _actions = {
        signal.SIGTERM: _stop,
        signal.SIGINT: _stop,
        signal.SIGQUIT: _quit,
        signal.SIGHUP: _reload,
        signal.SIGUSR1: _reopen,
        signal.SIGUSR2: _upgrade,
        signal.SIGTTIN: _add_worker,
        signal.SIGTTOU: _remove_worker,
        signal.SIGCHLD: _child_ended,
    }


def _exit_code(code: int) -> ExitCode:
    try:
        return ExitCode(code)
    except ValueError:
        return ExitCode.LISTEN_FAILED
