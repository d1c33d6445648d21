"""The supervisor's side of its processes: loaders and workers, as it knows them."""

# What a supervisor shares with a worker, and by which way it reaches it
#
# A worker is somebody's grandchild: the loader forks it. The supervisor has made
# everything that the two share before, and sends it along with the order, as
# descriptors (``take_descriptors``); the process id comes later, in the loader's
# answer. Until then the worker is known by its number, and ``send_signal`` does
# nothing.
#
# - The channel carries messages, as long as the worker's loop turns. Its end is the
#   news of the worker's death. For that our copy of the worker's end must be closed as
#   soon as the process has its own (``handed_over``); a copy that stays open would keep
#   a dead worker's channel alive.
# - The board is memory that the worker writes and the supervisor reads, with heartbeat
#   and figures. It tells of a worker that is blocked, and its figures outlive it.
# - The stacks are a file in memory for ``faulthandler``. A signal has it write them
#   even if the worker holds the interpreter's lock for good; a message would not be
#   read, and a log line not be written.
#
# A signal is for what cannot read: SIGTERM while it starts, SIGKILL past a deadline.
# SIGCONT comes first, for a process that is stopped hears nothing else. A process id is
# only good until its parent has waited for it, and the parent is the loader. In the
# moment between that and ``WorkerExited`` a signal finds no process
# (``ProcessLookupError``).
#
# New processes are started by the words and in the directory that this one was started
# with, since a deployment has most likely changed what is there; that is the point of a
# reload.

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from djserve.instrumentation.board import Board, Figure, create_memory
from djserve.net.channel import Channel, open_pair
from djserve.supervisor.inheritance import LOADER_VARIABLE, ChildEnvironment
from djserve.supervisor.messages import (
    PRELOAD_OFF,
    BecomeWorker,
    ForkWorker,
    Order,
    Quit,
    ReportCalls,
    ShowMetrics,
    Stop,
    WorkerState,
    encode_order,
)
from djserve.supervisor.parent_death import die_with
from djserve.supervisor.system import STACK_SIGNAL, resident_memory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from djserve.conf.schema import WorkersConfig


given_command: list[str] | None = None
"""The command line instead of this process's own."""


def command_line() -> list[str]:
    """Return how this program was started, for another process of the same kind."""
    if given_command is not None:
        return given_command
    return [sys.executable, *sys.orig_argv[1:]]


def working_directory() -> str:
    """Return the directory that this program was started in.

    Under its name in the shell: if that is a symbolic link that a deployment turns
    to another release, new processes must start in the new one.
    """
    current = os.getcwd()
    named = os.environ.get("PWD", "")
    try:
        if named and os.path.samefile(named, current):
            return named
    except OSError:
        pass
    return current


def name_user(error: OSError, user: str | None) -> None:
    """Name the user who may not run a program in the error of its start.

    Root may run it: an interpreter below /root, for example.
    """
    if user is not None and error.errno == errno.EACCES:
        error.strerror = f"{error.strerror} for the user {user}"


class Launcher:
    """Start loaders, each in a new interpreter with this program's command line."""

    def __init__(
        self,
        config: WorkersConfig,
        sockets: Sequence[int],
        arguments: Sequence[str] | None = None,
        directory: str | None = None,
        redirecting: Sequence[int] = (),
    ) -> None:
        self._arguments = arguments or command_line()
        self._directory = directory or working_directory()
        self._config = config
        self._sockets = tuple(sockets)
        self._redirecting = tuple(redirecting)

    @property
    def start_timeout(self) -> float:
        """Seconds that a loader has for the application."""
        return self._config.worker_start_timeout

    def start(self, *, is_checked: bool = False) -> Loader:
        """Start a loader. Raises OSError if the system cannot.

        With ``is_checked`` another has run the system checks on the same code.
        """
        ours, theirs = open_pair()
        environment = ChildEnvironment(
            theirs.fileno(), self._sockets, is_checked, self._redirecting
        )
        try:
            process = subprocess.Popen(
                self._arguments,
                cwd=self._directory,
                env={**os.environ, LOADER_VARIABLE: environment.to_text()},
                stdin=subprocess.DEVNULL,
                pass_fds=(environment.channel, *environment.sockets),
                user=self._config.user,
                group=self._config.group,
                extra_groups=None if self._config.user is None else [],
                # The supervisor has few threads, and none of them holds a lock that
                # this needs.
                preexec_fn=die_with(os.getpid()),
            )
        except OSError as error:
            ours.close()
            name_user(error, self._config.user)
            raise
        except KeyError as error:
            ours.close()
            # A user or group that the system does not know.
            raise OSError(error.args[0]) from error
        finally:
            theirs.close()
        return Loader(process, ours)


class Loader:
    """A loader process. ``obstacle`` says why it cannot fork, "" if it can.

    ``deadline`` is the monotonic time by which it has to have done what it was started
    or told to do last.
    """

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel) -> None:
        self.process = process
        self.channel = channel
        self.deadline: float | None = None
        self.is_loaded = False
        self.is_quitting = False
        self.is_killed = False
        self.obstacle = ""
        self.notes: list[str] = []
        self.problems: list[str] = []

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid

    @property
    def is_obstacle_unexpected(self) -> bool:
        """Whether the operator has not asked for workers that load by themselves."""
        return self.obstacle != PRELOAD_OFF

    @property
    def can_fork(self) -> bool:
        """Whether workers may be forked from it."""
        return self.is_loaded and not self.obstacle

    def fork(self, worker: Worker) -> None:
        """Order a worker in a new process."""
        order = encode_order(ForkWorker(worker.number))
        self.channel.send(order, worker.take_descriptors())

    def become(self, worker: Worker) -> None:
        """Order this process to be a worker."""
        order = encode_order(BecomeWorker(worker.number))
        self.channel.send(order, worker.take_descriptors())

    def quit(self) -> None:
        """Let it end once its workers have."""
        self.is_quitting = True
        # One that is stopped (SIGSTOP) would hear nothing.
        self.process.send_signal(signal.SIGCONT)
        if self.channel.fileno() >= 0:
            self.channel.send(encode_order(Quit()))

    def kill(self) -> None:
        """End it this moment, even one that is stopped."""
        self.process.kill()

    def close(self) -> None:
        """Release it: a loader that waits for orders ends then."""
        self.channel.close()


class Worker:
    """A worker process, from the order for it to its end."""

    def __init__(self, number: int, generation: int, now: float) -> None:
        self.number = number
        self.generation = generation
        self.state = WorkerState.STARTING
        self.started_at = now
        self.ready_at: float | None = None
        self.deadline: float | None = None
        self.is_overdue = False
        self.stopping_at = 0.0
        self.is_extended = False
        self.pid: int | None = None
        self.loader: Loader | None = None
        self.replaces: Worker | None = None
        self.problems: list[str] = []
        self.board = Board()
        self._stacks = create_memory("djserve-stacks", 0)
        self.channel, self._theirs = open_pair()
        self.blocked_since: float | None = None
        self.dumped_at: float | None = None

    def __str__(self) -> str:
        pid = "" if self.pid is None else f" (process {self.pid})"
        return f"Worker {self.number}{pid}"

    def take_descriptors(self) -> tuple[int, int, int]:
        """Return what the worker's process needs, once."""
        return self._theirs.fileno(), self.board.descriptor, self._stacks

    def handed_over(self) -> None:
        """Close our copy of the worker's end, once its process has its own."""
        self._theirs.close()

    @property
    def requests(self) -> int:
        """How many requests it has answered."""
        return self.board.numbers[Figure.REQUESTS]

    def silence(self, now: float) -> float:
        """Return for how many seconds its event loop has not turned."""
        beat = self.board.numbers[Figure.HEARTBEAT] / 1e9
        return now - max(beat, self.ready_at or 0.0)

    @property
    def is_draining(self) -> bool:
        """Whether its event loop has heard that it is to stop."""
        return self.board.numbers[Figure.IS_DRAINING] != 0

    def resume(self) -> None:
        """Let a process that is stopped (SIGSTOP) run on."""
        self.send_signal(signal.SIGCONT)

    def tell_to_stop(self) -> None:
        """Ask for the end; a second time at once."""
        self.resume()
        if self.state is WorkerState.STARTING:
            self.terminate()
        self._send(Stop())

    def ask_for_calls(self, number: int) -> None:
        """Ask what it is doing; the answer has the number."""
        self._send(ReportCalls(number))

    def show_metrics(self, text: str) -> None:
        """Send the metrics that it has asked for."""
        self._send(ShowMetrics(text))

    def terminate(self) -> None:
        """Ask for the end by a signal: its loop may not run yet."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it this moment, if its process is known."""
        self.send_signal(signal.SIGKILL)

    def memory(self) -> int:
        """Return its resident memory in bytes, 0 if it cannot be told."""
        return resident_memory(self.pid)

    def send_signal(self, number: int) -> None:
        """Send a signal, if the process is known and still there."""
        if self.pid is None:
            return
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def ask_for_stacks(self) -> None:
        """Let the process write the stacks of its threads."""
        os.ftruncate(self._stacks, 0)
        os.lseek(self._stacks, 0, os.SEEK_SET)
        self.send_signal(STACK_SIGNAL)

    def read_stacks(self) -> str:
        """Return what the process has written since it was asked."""
        size = os.fstat(self._stacks).st_size
        return os.pread(self._stacks, size, 0).decode(errors="replace")

    def _send(self, order: Order) -> None:
        self.channel.send(encode_order(order))

    def close(self) -> None:
        """Release everything that was shared with the process."""
        self.channel.close()
        if self._theirs.fileno() >= 0:
            self._theirs.close()
        self.board.close()
        os.close(self._stacks)


def start_successor(
    sockets: Sequence[int], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start this program again, with the listening sockets, to take over."""
    return subprocess.Popen(
        command_line(),
        cwd=working_directory(),
        env={**os.environ, **environment},
        pass_fds=tuple(sockets),
    )
