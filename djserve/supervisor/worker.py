"""A worker: one server process under a supervisor, and what it tells of itself.

Its loop beats into memory that the supervisor reads. The end of the supervisor, seen
at the channel, is the end of the worker too: it drains and stops.
"""

from __future__ import annotations

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
from djserve.server.launch import Watch, prepare_reactor, serve_application
from djserve.server.lifecycle import ExitCode
from djserve.supervisor.parent_death import end_after
from djserve.supervisor.post import Post
from djserve.supervisor.titles import set_title

if TYPE_CHECKING:
    from djserve.conf.schema import LifecycleConfig, ServerConfig
    from djserve.server.lifecycle import Server
    from djserve.supervisor.program import Loaded, Program

logger = logging.getLogger("djserve")

STACK_SIGNAL = signal.SIGUSR2
"""Makes a worker write the stacks of its threads, whatever it is doing."""

STOP_MARGIN = 10.0
"""Seconds beyond all of a worker's own deadlines until it is killed."""

HANDLED_BY_LOADER = (signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1)


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


def time_to_end(config: LifecycleConfig) -> float:
    """Return the seconds after which a worker that was told to end is killed."""
    return config.shutdown_timeout + config.lifespan_timeout + STOP_MARGIN


def time_to_hear(config: LifecycleConfig) -> float:
    """Return the seconds after which a worker's loop must have heard of its end.

    A loop that is blocked for as long as requests may take finishes none of them.
    """
    return config.shutdown_timeout + STOP_MARGIN


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
    reactor = prepare_reactor()
    # The application may fork from its import on.
    with ForkGuard(tuple, descriptors=(channel.fileno(),)):
        try:
            if loaded is None:
                loaded = program.load()
            if loaded.config is not None:
                config = replace(loaded.config, bind=config.bind)
            post = Post(channel, board, reactor.loop, config, program)

            def server_ready(server: Server) -> None:
                # The drain closes the listeners' copies. With these open, the kernel
                # would go on taking connections that nobody accepts.
                for number in assignment.sockets:
                    os.close(number)
                post.server_ready(server)

            watch = Watch(server_ready, board, post.put_around)
            signals = (signal.SIGTERM,)
            return serve_application(
                loaded.application, config, reactor, watch, signals, loaded.files
            )
        except ConfigError as error:
            channel.send({"event": "failed", "problems": error.problems})
            raise
        finally:
            channel.flush()
