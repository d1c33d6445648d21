"""The keeper: a process that keeps PROCESSES running if there is no supervisor.

The server of ``runserver`` ends with every change of a file, in whatever way it can,
and has threads. The keeper is its child, with one thread and no project. It ends the
processes when its standard input ends, whatever ended the server, and then itself;
SIGTERM has it kill them.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from djserve.conf.parser import parse
from djserve.conf.processes import ProcessConfig
from djserve.net.signals import find_signal
from djserve.supervisor.commands import CommandLauncher
from djserve.supervisor.processes import command_line
from djserve.supervisor.services import Services
from djserve.supervisor.signals import SignalQueue, Watcher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STOP_TIMEOUT = 3.0
"""Seconds from SIGTERM to SIGKILL at most: a developer waits for each reload."""

KEEPER_TIMEOUT = 2.0
"""Seconds that the keeper may take in addition."""

TICK = 0.1

SIGNALS = tuple(
    number
    for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGCHLD")
    if (number := find_signal(name)) is not None
)

# The folder that djserve was imported from may be in sys.path by the project's doing.
START = """
import sys
sys.path.append(sys.argv[1])
from djserve.supervisor.keeper import main
main()
"""


class Keeper:
    """The server's side; ``start`` and ``stop`` may be called in any threads.

    The keeper has ``environment``, and holds ``descriptors`` open while it runs.
    """

    def __init__(
        self,
        processes: Sequence[ProcessConfig],
        environment: Mapping[str, str],
        descriptors: Sequence[int] = (),
        arguments: Sequence[str] | None = None,
    ) -> None:
        self._processes = processes
        self._environment = environment
        self._descriptors = descriptors
        self._arguments = command_line() if arguments is None else arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The keeper's process, None if there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the processes, unless they are to stop already."""
        with self._lock:
            if self._is_stopped or not self._processes:
                return
            self._process = subprocess.Popen(
                [sys.executable, "-c", START, str(Path(__file__).parents[2])],
                stdin=subprocess.PIPE,
                env=self._environment,
                pass_fds=self._descriptors,
                # A terminal's Control-C is for the server.
                start_new_session=True,
            )
        order = {
            "arguments": [*self._arguments],
            "processes": [*map(asdict, self._processes)],
        }
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            # Ended, or told to stop by another thread.
            return

    def stop(self) -> None:
        """End the processes; return once they have ended."""
        with self._lock:
            self._is_stopped = True
            process = self._process
        if process is None:
            return
        assert process.stdin is not None
        try:
            process.stdin.close()
        except OSError:
            pass
        try:
            process.wait(STOP_TIMEOUT + KEEPER_TIMEOUT)
        except BaseException as error:
            # A second Control-C, or a machine that is too busy.
            process.terminate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise


def main() -> None:
    """Read what to keep from standard input, and keep it until that ends."""
    with SignalQueue(SIGNALS) as signals:
        order = json.loads(sys.stdin.buffer.readline() or "null")
        if order is None:
            return
        # The terminal may have been closed.
        logging.raiseExceptions = False
        logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
        watcher = Watcher()
        launcher = CommandLauncher(
            parse({}).workers, watcher, arguments=order["arguments"]
        )
        services = Services([*map(read_entry, order["processes"])], launcher)
        watcher.watch(signals, lambda: None)
        _keep(services, watcher, signals)
        launcher.close()


def read_entry(entry: Mapping[str, Any]) -> ProcessConfig:
    """Return one process as it was sent, with as long as it may take to stop here."""
    words = {key: tuple(entry[key]) for key in ("command", "program")}
    process = ProcessConfig(**{**entry, **words})
    return replace(process, stop_timeout=min(process.stop_timeout, STOP_TIMEOUT))


def _keep(services: Services, watcher: Watcher, signals: SignalQueue) -> None:
    is_stopping = False

    def stop() -> None:
        nonlocal is_stopping
        if not os.read(sys.stdin.fileno(), 1):
            watcher.forget(sys.stdin)
            is_stopping = True
            services.stop()

    watcher.watch(sys.stdin, stop)
    while not (is_stopping and services.is_ended()):
        services.tick(time.monotonic(), 1)
        watcher.run(TICK)
        if signal.SIGTERM in signals.take():
            is_stopping = True
            services.stop()
            services.kill()
        services.poll()
