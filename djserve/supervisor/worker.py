"""A worker: one server process under a supervisor, and what it tells of itself.

Its loop beats into memory that the supervisor reads. The end of the supervisor, seen
at the channel, is the end of the worker too: it drains and stops.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from djserve.errors import ConfigError
from djserve.instrumentation.board import Board, Field
from djserve.net.channel import Channel, Message
from djserve.server.banner import describe_loop
from djserve.server.launch import Watch, prepare_reactor, serve_application
from djserve.server.lifecycle import ExitCode
from djserve.supervisor.titles import set_title

if TYPE_CHECKING:
    from djserve.conf.schema import ServerConfig
    from djserve.net.reactor import Reactor
    from djserve.server.lifecycle import Server
    from djserve.supervisor.program import Loaded, Program

BEAT_INTERVAL = 0.25
STACK_SIGNAL = signal.SIGUSR2
"""Makes a worker write the stacks of its threads, whatever it is doing."""

HANDLED_BY_LOADER = (signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1)


@dataclass(frozen=True)
class Assignment:
    """A worker's number, and the descriptors that it shares with its supervisor."""

    number: int
    channel: int
    board: int
    stacks: int


def run_worker(
    assignment: Assignment,
    config: ServerConfig,
    program: Program,
    loaded: Loaded | None,
) -> ExitCode:
    """Serve as a worker until told to stop; return how the process ends."""
    for number in HANDLED_BY_LOADER:
        signal.signal(number, signal.SIG_DFL)
    set_title(f"worker {assignment.number}")
    faulthandler.register(STACK_SIGNAL, file=assignment.stacks, all_threads=True)
    channel = Channel.adopt(assignment.channel)
    board = Board(assignment.board)
    reactor = prepare_reactor()
    try:
        if loaded is None:
            loaded = program.load()
        if loaded.config is not None:
            config = replace(loaded.config, bind=config.bind)
        post = Post(channel, board, reactor, program)
        watch = Watch(post.server_ready)
        signals = (signal.SIGTERM,)
        return serve_application(loaded.application, config, reactor, watch, signals)
    except ConfigError as error:
        channel.send({"event": "failed", "problems": error.problems})
        raise
    finally:
        channel.flush()


class Post:
    """A worker's conversation with its supervisor, on the worker's own loop."""

    def __init__(
        self, channel: Channel, board: Board, reactor: Reactor, program: Program
    ) -> None:
        self._channel = channel
        self._board = board
        self._loop = reactor.loop
        self._program = program
        self._server: Server | None = None
        self._expected = 0.0

    def server_ready(self, server: Server) -> None:
        """Tell that every address accepts connections, and begin to beat."""
        self._server = server
        self._expected = time.monotonic()
        self._beat()
        self._loop.add_reader(self._channel.fileno(), self._receive)
        loop = describe_loop(self._loop)
        self._tell({"event": "ready", "pid": os.getpid(), "loop": loop})

    def _beat(self) -> None:
        assert self._server is not None
        now = time.monotonic()
        numbers = self._board.numbers
        numbers[Field.HEARTBEAT] = int(now * 1e9)
        lag = max(0, int((now - self._expected) * 1e9))
        numbers[Field.LOOP_LAG] = lag
        numbers[Field.LOOP_LAG_WORST] = max(lag, numbers[Field.LOOP_LAG_WORST])
        numbers[Field.CALLS] = len(self._server.calls)
        numbers[Field.CONNECTIONS] = self._server.connection_count
        numbers[Field.IS_DRAINING] = self._server.is_stopping
        if self._program.thread_stats is not None:
            threads, running, queued = self._program.thread_stats()
            numbers[Field.THREADS] = threads
            numbers[Field.THREADS_RUNNING] = running
            numbers[Field.THREADS_QUEUED] = queued
        self._expected = now + BEAT_INTERVAL
        self._loop.call_later(BEAT_INTERVAL, self._beat)

    def _receive(self) -> None:
        assert self._server is not None
        try:
            messages = self._channel.receive()
        except EOFError:
            self._loop.remove_reader(self._channel.fileno())
            self._server.stop()
            return
        for message in messages:
            self._obey(message)

    def _obey(self, message: Message) -> None:
        assert self._server is not None
        if message["command"] == "stop":
            self._server.stop()

    def _tell(self, message: Message) -> None:
        self._channel.send(message)
        if self._channel.has_output:
            self._loop.add_writer(self._channel.fileno(), self._flush)

    def _flush(self) -> None:
        self._channel.flush()
        if not self._channel.has_output:
            self._loop.remove_writer(self._channel.fileno())
