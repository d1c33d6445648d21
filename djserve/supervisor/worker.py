"""A worker: one server process under a supervisor, and its conversation with that.

Its loop beats into memory that the supervisor reads. The end of the supervisor, seen
at the channel, is the end of the worker too: it drains and stops.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from djserve.errors import ConfigError
from djserve.instrumentation.board import Board
from djserve.net.channel import Channel
from djserve.net.forks import ForkGuard
from djserve.server.banner import describe_loop
from djserve.server.launch import Watch, prepare_loop, serve_application
from djserve.server.lifecycle import ExitCode
from djserve.server.monitor import Heartbeat
from djserve.server.probes import answer_in_front
from djserve.supervisor.inheritance import count_workers
from djserve.supervisor.inspection import inspect_calls
from djserve.supervisor.messages import (
    CallsReported,
    Event,
    Failed,
    MetricsWanted,
    Order,
    ReportCalls,
    ServeDatagrams,
    ShowMetrics,
    Stop,
    WorkerReady,
    decode_order,
    encode_event,
    time_to_end,
)
from djserve.supervisor.parent_death import end_after
from djserve.supervisor.system import STACK_SIGNAL, set_title

if TYPE_CHECKING:
    from djserve.asgi.types import Application
    from djserve.conf.schema import MetricsConfig, ServerConfig
    from djserve.server.lifecycle import Server
    from djserve.supervisor.program import Loaded, Program


logger = logging.getLogger("djserve")

HANDLED_BY_LOADER = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGCHLD", "SIGUSR1")
    if hasattr(signal, name)
)


@dataclass(frozen=True)
class Assignment:
    """A worker's number, and the descriptors that it shares with its supervisor.

    ``sockets`` listen; the worker's listeners make copies of them.
    """

    number: int
    channel: int
    board: int
    stacks: int
    sockets: tuple[int, ...] = ()


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
    end_after(assignment.channel, time_to_end(config.lifecycle))
    faulthandler.register(STACK_SIGNAL, file=assignment.stacks, all_threads=True)
    channel = Channel.adopt(assignment.channel)
    board = Board(assignment.board)
    if board.has_other_layout:
        logger.warning(
            "The supervisor is of another version of djserve: its metrics lack this "
            "worker's requests by status until SIGUSR2 renews it"
        )
    runner = prepare_loop()
    # The application may fork from its import on.
    with ForkGuard(tuple, descriptors=(channel.fileno(),)):
        try:
            if loaded is None:
                loaded = program.load()
            if loaded.config is not None:
                bind, redirect = config.bind, config.redirect
                config = replace(loaded.config, bind=bind, redirect=redirect)
            link = SupervisorLink(
                channel,
                board,
                runner.loop,
                program,
                metrics=config.metrics,
                has_control=config.workers.control_socket is not None,
            )

            def server_ready(server: Server) -> None:
                # The drain closes the listeners' copies. With these open, the kernel
                # would go on taking connections that nobody accepts.
                for number in assignment.sockets:
                    os.close(number)
                link.server_ready(server)

            watch = Watch(
                server_ready,
                board,
                link.put_around,
                is_supervisor=True,
                has_siblings=count_workers(config.workers.workers) > 1,
            )
            signals = (signal.SIGTERM,)
            try:
                return serve_application(
                    loaded.application, config, runner, watch, signals, loaded.files
                )
            finally:
                link.server_ended()
        except ConfigError as error:
            channel.send(encode_event(Failed(error.problems)))
            raise
        finally:
            channel.flush()


ANSWER_TIMEOUT = 5.0


class SupervisorLink:
    """Tell the supervisor what happens, do what it orders, ask it for the metrics."""

    def __init__(
        self,
        channel: Channel,
        board: Board,
        loop: asyncio.AbstractEventLoop,
        program: Program,
        *,
        metrics: MetricsConfig,
        has_control: bool,
    ) -> None:
        self._channel = channel
        self._board = board
        self._loop = loop
        self._metrics = metrics
        self._has_control = has_control
        self._program = program
        self._server: Server | None = None
        self._heartbeat: Heartbeat | None = None
        self._waiting: list[asyncio.Future[str]] = []

    def server_ready(self, server: Server) -> None:
        """Tell that every address accepts connections, and begin to beat."""
        self._server = server
        if self._has_control:
            server.calls.note_beginnings()
        thread_stats = self._program.thread_stats
        self._heartbeat = Heartbeat(self._board, server, thread_stats)
        self._heartbeat.start(self._loop)
        self._loop.add_reader(self._channel.fileno(), self._receive)
        loop = describe_loop(self._loop)
        self._tell(WorkerReady(os.getpid(), loop))

    def server_ended(self) -> None:
        """Write down what the supervisor adds to its totals once the worker is gone."""
        if self._heartbeat is not None:
            self._heartbeat.stop()

    def put_around(self, application: Application) -> Application:
        """Put around the application what a supervisor may ask for."""
        return answer_in_front(application, self._metrics, self, self._read_metrics)

    # server.probes.Probes, for the paths on the server's own addresses.

    def metrics(self) -> bytes:
        raise NotImplementedError("only the supervisor knows them")

    def is_alive(self) -> bool:
        return True

    def is_ready(self) -> bool:
        return self._server is not None and not self._server.is_stopping

    async def _read_metrics(self) -> bytes:
        """Ask the supervisor, who alone sees every worker's figures."""
        answer: asyncio.Future[str] = self._loop.create_future()
        self._waiting.append(answer)
        self._tell(MetricsWanted())
        async with asyncio.timeout(ANSWER_TIMEOUT):
            return (await answer).encode()

    def _receive(self) -> None:
        assert self._server is not None
        try:
            messages = self._channel.receive()
        except EOFError:
            # The supervisor is gone, and nobody would ever replace this worker.
            self._loop.remove_reader(self._channel.fileno())
            self._server.stop()
            return
        for message in messages:
            self._obey(decode_order(message), self._server)

    def _obey(self, order: Order | None, server: Server) -> None:
        match order:
            case Stop():
                server.stop()
            case ReportCalls(number):
                calls = inspect_calls(server.calls, self._program.describe)
                self._tell(CallsReported(number, calls))
            case ShowMetrics(text):
                waiting, self._waiting = self._waiting, []
                for answer in waiting:
                    if not answer.done():
                        answer.set_result(text)
            case ServeDatagrams(folder):
                server.serve_datagrams(self._channel.take_descriptor(), folder)

    def _tell(self, event: Event) -> None:
        self._channel.send(encode_event(event))
        if self._channel.has_output:
            self._loop.add_writer(self._channel.fileno(), self._flush)

    def _flush(self) -> None:
        self._channel.flush()
        if not self._channel.has_output:
            self._loop.remove_writer(self._channel.fileno())
