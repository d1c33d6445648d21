"""The processes of PROCESSES: how they are started, read and ended.

Each is the leader of a session, so that a Control-C at the terminal reaches the
supervisor alone, and SIGKILL all that the process has started. What it writes is logged
line by line under its name. It gets SIGTERM when the supervisor ends, whatever ended
that; what is left then is killed by the guard (``guard``).
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from djserve.conf.process import NAME_VARIABLE
from djserve.supervisor.guard import Guard
from djserve.supervisor.parent_death import end_with
from djserve.supervisor.processes import command_line, name_user, working_directory
from djserve.supervisor.system import resident_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from djserve.conf.processes import ProcessConfig
    from djserve.conf.schema import WorkersConfig
    from djserve.supervisor.signals import Watcher

logger = logging.getLogger("djserve.processes")

READ_SIZE = 65536
"""Bytes that are read at a time: one that writes without end delays nothing else."""

LONGEST_LINE = 16384
"""Bytes after which a line is logged in parts."""


def management_prefix(words: Sequence[str]) -> list[str]:
    """Return the words before a management command, as this program was started.

    ``words`` is the command line: ``manage.py runasgi`` runs them by ``manage.py``, the
    command ``djserve`` by ``-m django``.
    """
    for name in ("runasgi", "runserver"):
        if name in words:
            index = words.index(name)
            return [*words[:index]]
    return [sys.executable, "-m", "django"]


def management_options(words: Sequence[str]) -> list[str]:
    """Return the options of a command line that tell Django where the project is."""
    found = []
    rest = iter(words)
    for word in rest:
        name, separator, _ = word.partition("=")
        if name in ("--settings", "--pythonpath"):
            found.append(word if separator else f"{word}={next(rest, '')}")
    return found


class CommandLauncher:
    """Start processes; ``log`` gets each line that one writes, with its name."""

    def __init__(
        self,
        workers: WorkersConfig,
        watcher: Watcher,
        *,
        arguments: Sequence[str] | None = None,
        log: Callable[[str, str], None] | None = None,
    ) -> None:
        self._workers = workers
        self._watcher = watcher
        self._arguments = command_line() if arguments is None else arguments
        self._directory = working_directory()
        self._log = log or log_line
        self._guard = Guard()

    def start(self, config: ProcessConfig, name: str) -> CommandProcess:
        """Start a process. Raises OSError."""
        reader, writer = os.pipe()
        workers = self._workers
        try:
            process = subprocess.Popen(
                self._words(config),
                cwd=self._directory,
                env={
                    **os.environ,
                    # Lines are to be seen when they are written.
                    "PYTHONUNBUFFERED": "1",
                    NAME_VARIABLE: config.name,
                },
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                start_new_session=True,
                user=workers.user,
                group=workers.group,
                extra_groups=None if workers.user is None else [],
                preexec_fn=end_with(os.getpid()),
            )
        except KeyError as error:
            os.close(reader)
            # A user or group that the system does not know.
            raise OSError(error.args[0]) from error
        except OSError as error:
            os.close(reader)
            name_user(error, workers.user)
            raise
        finally:
            os.close(writer)
        self._guard.add(process.pid, config.stop_timeout)
        return CommandProcess(
            process, reader, name, self._watcher, self._guard, self._log
        )

    @property
    def pids(self) -> set[int]:
        """The guard, if it runs."""
        return set() if self._guard.pid is None else {self._guard.pid}

    def close(self) -> None:
        """End the guard; called once no process is left."""
        self._guard.close()

    def _words(self, config: ProcessConfig) -> list[str]:
        if config.program:
            return [*config.program]
        words = self._arguments
        prefix, options = management_prefix(words), management_options(words)
        return [*prefix, *config.command, *options]


class CommandProcess:
    """One process and what it writes."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: int,
        name: str,
        watcher: Watcher,
        guard: Guard,
        log: Callable[[str, str], None],
    ) -> None:
        self._process = process
        self._reader = reader
        self._name = name
        self._watcher = watcher
        self._guard = guard
        self._log = log
        self._rest = b""
        os.set_blocking(reader, False)
        watcher.watch(self, self.read)

    def fileno(self) -> int:
        """Return the descriptor that is readable once it has written."""
        return self._reader

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return its exit code, None while it runs; then what it started is ended."""
        code = self._process.poll()
        if code is not None:
            self._signal_group(signal.SIGKILL)
            self._guard.remove(self.pid)
        return code

    def read(self) -> None:
        """Log what it has written."""
        try:
            data = os.read(self._reader, READ_SIZE)
        except BlockingIOError:
            return
        if not data:
            self._watcher.forget(self)
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._write(line)
        while len(self._rest) > LONGEST_LINE:
            self._write(self._rest[:LONGEST_LINE])
            self._rest = self._rest[LONGEST_LINE:]

    def terminate(self) -> None:
        """Ask for the end, also of one that is stopped (SIGSTOP)."""
        self._process.send_signal(signal.SIGTERM)
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it this moment, with all that it has started."""
        self._signal_group(signal.SIGKILL)

    def memory(self) -> int:
        """Return its resident memory in bytes, 0 if it cannot be told."""
        return resident_memory(self.pid)

    def close(self) -> None:
        """Release it, once it has ended; what it has written is logged first."""
        while self._watcher.is_watched(self) and self._has_output():
            self.read()
        if self._rest:
            self._write(self._rest)
        self._watcher.forget(self)
        os.close(self._reader)

    def _has_output(self) -> bool:
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        return any(event & select.POLLIN for _, event in poll.poll(0))

    def _write(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        if text:
            self._log(self._name, text)

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return


def log_line(name: str, text: str) -> None:
    """Log a line of a process's output."""
    logger.info("%s: %s", name, text)
