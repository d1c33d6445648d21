"""A worker's conversation with its supervisor, on the worker's own loop."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from djserve.instrumentation.board import Board
from djserve.server.banner import describe_loop
from djserve.server.heartbeat import Heartbeat
from djserve.server.insight import answer_in_front
from djserve.supervisor.inspection import inspect_calls

if TYPE_CHECKING:
    from djserve.asgi.types import Application
    from djserve.conf.schema import ServerConfig
    from djserve.net.channel import Channel, Message
    from djserve.server.lifecycle import Server
    from djserve.supervisor.program import Program

ANSWER_TIMEOUT = 5.0


class Post:
    """Tell the supervisor what happens, do what it orders, ask it for the metrics."""

    def __init__(
        self,
        channel: Channel,
        board: Board,
        loop: asyncio.AbstractEventLoop,
        config: ServerConfig,
        program: Program,
    ) -> None:
        self._channel = channel
        self._board = board
        self._loop = loop
        self._config = config
        self._program = program
        self._server: Server | None = None
        self._waiting: list[asyncio.Future[str]] = []

    def server_ready(self, server: Server) -> None:
        """Tell that every address accepts connections, and begin to beat."""
        self._server = server
        if self._config.workers.control_socket is not None:
            server.calls.note_beginnings()
        Heartbeat(self._board, server, self._program.thread_stats).start(self._loop)
        self._loop.add_reader(self._channel.fileno(), self._receive)
        loop = describe_loop(self._loop)
        self._tell({"event": "ready", "pid": os.getpid(), "loop": loop})

    def put_around(self, application: Application) -> Application:
        """Put around the application what a supervisor may ask for."""
        path = self._config.metrics.metrics_path
        if path is None:
            return application
        return answer_in_front(application, path, self, self._read_metrics)

    # server.insight.Insight, for the paths on the server's own addresses.

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
        self._tell({"event": "metrics"})
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
            self._obey(message, self._server)

    def _obey(self, message: Message, server: Server) -> None:
        match message["command"]:
            case "stop":
                server.stop()
            case "report":
                calls = inspect_calls(server.calls, self._program.describe)
                self._tell({"event": "report", "id": message["id"], "calls": calls})
            case "metrics":
                waiting, self._waiting = self._waiting, []
                for answer in waiting:
                    if not answer.done():
                        answer.set_result(message["text"])

    def _tell(self, message: Message) -> None:
        self._channel.send(message)
        if self._channel.has_output:
            self._loop.add_writer(self._channel.fileno(), self._flush)

    def _flush(self) -> None:
        self._channel.flush()
        if not self._channel.has_output:
            self._loop.remove_writer(self._channel.fileno())
