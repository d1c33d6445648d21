"""A loader: a new interpreter that imports the application and makes workers of it.

It runs the same command line as the supervisor, and finds in its environment that it
is a child, with the channel to the supervisor and the listening sockets. It forks a
worker for each order, or becomes one itself if a fork would not be safe.
"""

# Why a process between the supervisor and its workers
#
# The supervisor must outlive every state of the code, so it must not import any of it.
# The workers should share the memory of what they have imported, so they have to be
# forked from a process that has imported it. The loader is that process: one for each
# generation of the code, so that new code is always imported by a new interpreter, and
# never patched over the old.
#
# A fork copies one thread. Locks that other threads held at that moment stay locked in
# the child for good; sockets, timers and the event loop would be shared. So the loader
# looks, after it has imported the application, for what speaks against a fork
# (``find_obstacle``): threads of Python's or of a library's own, child processes,
# Twisted's reactor. If there is anything, it forks nothing; each worker is then a
# loader that turns into a worker (``BecomeWorker``), at the price of the shared memory.
# A loop that the application takes when it is imported would be the loader's: asyncio
# is told that there is none, and the worker imports the application itself. A reactor
# of Twisted's cannot be taken back in this process, so that one is an error that names
# PRELOAD.
#
# What a worker inherits is chosen. Connections to databases and caches are closed
# before the first fork. The garbage collector's objects are frozen: a collection in a
# worker would write to each object's header, and so copy every page that is shared.
# Listening sockets are inherited by number; the channel, the board and the file for
# stacks come with the order and are closed here after the fork.
#
# The loader waits in one place, a ``select``. SIGCHLD writes to a pipe in that
# ``select`` (``signal.set_wakeup_fd``), or the end of a child between the look and the
# wait would go unnoticed. It alone can wait for the workers' ends, since it is their
# parent, and reports them. When the supervisor has gone (the channel is at its end) it
# stays until its workers have drained, and ends those that take too long: there is no
# one else left to do it.

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from djserve.errors import ConfigError
from djserve.instrumentation.logging import configure
from djserve.net.binding import use_descriptors
from djserve.net.channel import Channel
from djserve.net.forks import ForkGuard, name_sockets, own_fork
from djserve.server import first_signals
from djserve.server.factory import load_protocols
from djserve.server.launch import uses_django
from djserve.server.lifecycle import ExitCode
from djserve.supervisor.inheritance import ChildEnvironment
from djserve.supervisor.messages import (
    PRELOAD_OFF,
    BecomeWorker,
    CodeLoaded,
    Event,
    Failed,
    ForkWorker,
    Order,
    Quit,
    WorkerExited,
    WorkerForked,
    decode_order,
    encode_event,
    time_to_end,
)
from djserve.supervisor.parent_death import is_hung_up, request_signal
from djserve.supervisor.system import set_title
from djserve.supervisor.worker import Assignment, run_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.conf.schema import ServerConfig
    from djserve.supervisor.program import Loaded, Program

# Sent by the terminal to the whole process group; the supervisor decides what follows.
_IGNORED = "SIGINT SIGHUP SIGQUIT SIGTTIN SIGTTOU"
IGNORED = tuple(
    getattr(signal, name) for name in _IGNORED.split() if hasattr(signal, name)
)


def run_child(
    given: ChildEnvironment, config: ServerConfig, program: Program
) -> ExitCode:
    """Load the application and follow the supervisor's orders.

    Returns in the loader, and once in each worker that it forked.
    """
    first_signals.release()
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    bind, redirect = use_descriptors(
        config.bind, config.redirect, given.sockets, given.redirecting
    )
    config = replace(config, bind=bind, redirect=redirect)
    configure(config.logging, django=uses_django())
    set_title("loader")
    channel = Channel.adopt(given.channel)

    def serve(assignment: Assignment, loaded: Loaded | None) -> ExitCode:
        return run_worker(assignment, config, program, loaded)

    loader = _Loader(
        channel,
        program,
        given.sockets,
        serve,
        preload=config.workers.preload,
        ending_time=time_to_end(config.lifecycle),
    )
    addresses = name_sockets(given.sockets)
    descriptors = (channel.fileno(),)
    with ForkGuard(lambda: addresses, descriptors=descriptors):
        return loader.run()


def report_failure(problems: list[str]) -> bool:
    """Tell the supervisor why this process cannot load; False if there is none."""
    given = ChildEnvironment.take()
    if given is None:
        return False
    channel = Channel.adopt(given.channel)
    channel.send(encode_event(Failed(problems)))
    _flush(channel)
    channel.close()
    return True


def find_obstacle() -> str:
    """Return why a fork would not be safe after loading, "" if it is."""
    others = [
        thread.name
        for thread in threading.enumerate()
        if thread is not threading.main_thread()
    ]
    if others:
        return f"it has started threads ({', '.join(others)})"
    if _count_native_threads() > 1:
        return "one of its libraries has started threads"
    if _has_children():
        return "it has started processes"
    if "twisted.internet.reactor" in sys.modules:
        return "it has imported Twisted's reactor"
    return ""


def _count_native_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


def _has_children() -> bool:
    """Return whether this process has one: what it does would be done once for all."""
    if not hasattr(os, "waitid"):
        return _has_running_children()
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    # One that has ended, and was not waited for, does nothing any more.
    return found is None


def _has_running_children() -> bool:
    """Return the same on macOS with a Python before 3.13; reap those that have ended.

    Without waitid() no call tells of a child and leaves it as it is.
    """
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


class _Loader:
    """The loader's side of the conversation with the supervisor.

    ``serve`` is what a worker does. ``ending_time`` bounds how long the workers may
    take to end if the supervisor has gone.
    """

    def __init__(
        self,
        channel: Channel,
        program: Program,
        sockets: tuple[int, ...],
        serve: Callable[[Assignment, Loaded | None], ExitCode],
        *,
        preload: bool,
        ending_time: float,
    ) -> None:
        self._channel = channel
        self._serve = serve
        self._preload = preload
        self._ending_time = ending_time
        self._program = program
        self._sockets = sockets
        self._loaded: Loaded | None = None
        self._children: set[int] = set()
        self._is_told_to_quit = False

    def run(self) -> ExitCode:
        try:
            obstacle = self._load()
        except ConfigError as error:
            self._tell(Failed(error.problems))
            return ExitCode.CONFIG_WRONG
        notes = list(self._loaded.notes) if self._loaded is not None else []
        self._tell(CodeLoaded(obstacle, notes))
        # From now on it has more to do at the supervisor's end than to end as well.
        request_signal(signal.SIGCONT)
        if is_hung_up(self._channel.fileno()):
            return ExitCode.OK
        if not obstacle:
            self._prepare_fork()
        assignment = self._follow_orders()
        if assignment is None:
            return ExitCode.OK
        return self._serve(assignment, self._loaded)

    def _load(self) -> str:
        """Load the application if a fork may follow; return what speaks against."""
        if not self._preload:
            return PRELOAD_OFF
        # A loop that the application would make for itself now would not be the
        # worker's: without a current one asyncio refuses, and the worker loads again.
        asyncio.set_event_loop(None)
        try:
            self._loaded = self._program.load()
        except ConfigError as error:
            if not _wants_event_loop(error):
                raise
            return "it uses the event loop when it is imported"
        obstacle = find_obstacle()
        if "reactor" in obstacle:
            # This process cannot have djserve's reactor any more.
            problem = (
                f"Set PRELOAD to False: the application cannot be forked, {obstacle}"
            )
            raise ConfigError([problem])
        return obstacle

    def _prepare_fork(self) -> None:
        self._program.before_fork()
        load_protocols()
        signal.signal(signal.SIGCHLD, lambda *_: None)
        gc.collect()
        # What is loaded by now stays for good; untouched by the collector of a worker,
        # its pages stay shared.
        gc.freeze()

    def _follow_orders(self) -> Assignment | None:
        """Serve the supervisor until it is done; return the assignment in a worker."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        os.set_blocking(reader, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        while not (self._is_told_to_quit and not self._children):
            select.select([self._channel.fileno(), reader], [], [])
            _drain_pipe(reader)
            self._reap()
            try:
                orders = self._channel.receive()
            except EOFError:
                self._outlive_supervisor()
                break
            for order in orders:
                assignment = self._obey(decode_order(order))
                if assignment is not None:
                    signal.set_wakeup_fd(-1)
                    os.close(reader)
                    os.close(writer)
                    return assignment
        return None

    def _obey(self, order: Order | None) -> Assignment | None:
        match order:
            case Quit():
                self._quit()
            case ForkWorker(number):
                return self._fork(self._take_assignment(number))
            case BecomeWorker(number):
                assignment = self._take_assignment(number)
                self._channel.close()
                return assignment
        return None

    def _take_assignment(self, number: int) -> Assignment:
        channel, board, stacks = (self._channel.take_descriptor() for _ in range(3))
        return Assignment(number, channel, board, stacks, self._sockets)

    def _fork(self, assignment: Assignment) -> Assignment | None:
        """Make a worker; return the assignment in its process."""
        with own_fork():
            pid = os.fork()
        if pid == 0:
            self._channel.close()
            return assignment
        for descriptor in (assignment.channel, assignment.board, assignment.stacks):
            os.close(descriptor)
        self._children.add(pid)
        self._tell(WorkerForked(assignment.number, pid))
        return None

    def _quit(self) -> None:
        """End once all workers have ended; make no further ones.

        While any process has the sockets open, the kernel takes connections on them
        that no worker would accept: they have to be refused instead.
        """
        self._is_told_to_quit = True
        sockets, self._sockets = self._sockets, ()
        for number in sockets:
            os.close(number)

    def _outlive_supervisor(self) -> None:
        """Wait for the workers, which drain now, and end those that do not."""
        deadline = time.monotonic() + self._ending_time
        for pid in self._children:
            os.kill(pid, signal.SIGCONT)
        while self._children:
            if time.monotonic() >= deadline:
                for pid in self._children:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
            self._reap()

    def _reap(self) -> None:
        for pid in list(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._children.discard(pid)
                code = os.waitstatus_to_exitcode(status)
                self._tell(WorkerExited(pid, code))

    def _tell(self, event: Event) -> None:
        self._channel.send(encode_event(event))
        _flush(self._channel)


def _flush(channel: Channel) -> None:
    while channel.has_output:
        select.select([], [channel.fileno()], [], 1.0)
        channel.flush()


def _wants_event_loop(error: ConfigError) -> bool:
    cause = error.__cause__
    return isinstance(cause, RuntimeError) and "event loop" in str(cause)


def _drain_pipe(reader: int) -> None:
    try:
        os.read(reader, 4096)
    except BlockingIOError:
        return
