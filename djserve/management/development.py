"""The server that Django's ``runserver`` drives in place of its WSGI server.

Django binds, prints its banner and serves in three steps, in the main thread or, under
its reloader, in another one; so does ``DevelopmentServer``. The reloader ends the
process from the main thread: ``stop_within`` lets open connections be closed first, but
never waits for them long.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from djserve.conf.loader import load
from djserve.errors import ListenError
from djserve.instrumentation.development_log import DevelopmentLog
from djserve.instrumentation.fan_out import combine
from djserve.instrumentation.logging import configure, configure_development
from djserve.net.descriptors import raise_descriptor_limit
from djserve.net.handover import inherit_sockets
from djserve.net.main_loop import redirect_twisted_log, take_main_loop_or_other
from djserve.server.launch import (
    choose_origin_policy,
    exit_within,
    import_websocket_later,
)
from djserve.server.lifecycle import ExitCode, Server, run_until_stopped
from djserve.server.tracing import open_tracing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djserve.asgi.types import Application
    from djserve.conf.schema import ServerConfig
    from djserve.instrumentation.events import RequestLog
    from djserve.net.main_loop import Runner


# What a project sets for production and a developer's machine has no use for. A reload
# should not wait for a browser to finish.
OVERRIDES = {
    "ACCESS_LOG": None,
    "ACME_DOMAINS": (),
    "CERTFILE": None,
    "CLIENT_CA_FILE": None,
    "CLIENT_CERTIFICATES": "none",
    "KEYFILE": None,
    "KEYFILE_PASSWORD": None,
    "PID_FILE": None,
    "REDIRECT_HTTP": (),
    "SHUTDOWN_TIMEOUT": 0.3,
    "SNI_CERTFILES": (),
    "WORKERS": 1,
}

# Seconds for a server in another thread to close its connections, and then for threads
# of the application that still run.
CLOSE_TIMEOUT = 0.6
THREADS_TIMEOUT = 0.2

PROCESSES_TIMEOUT = 6.0
"""Seconds more at most for PROCESSES, which end before the server's process."""


def load_development_config(options: Mapping[str, Any]) -> ServerConfig:
    """Return the project's configuration as it suits development."""
    overrides = dict(OVERRIDES)
    if "CERTFILE" not in options:
        overrides["HTTP3"] = False
    return load({**overrides, **options})


def choose_loop() -> Runner:
    """Return the loop to run, with djserve's reactor if no other one is installed."""
    runner = take_main_loop_or_other()
    asyncio.set_event_loop(runner.loop)
    return runner


class DevelopmentServer:
    """Serve one application on one address.

    The three steps are those of ``django.core.servers.basehttp.run``. Creating it binds
    the address, unless the reloader's parent holds it already, and raises OSError if
    that fails.
    """

    def __init__(
        self,
        address: tuple[str, int],
        config: ServerConfig,
        runner: Runner,
        style: object,
    ) -> None:
        self._runner = runner
        self._style = style
        self._server: _Server | None = None
        self._ended = threading.Event()
        self._at_end = ExitStack()
        try:
            self._sockets = inherit_sockets(address, config.bind.backlog)
        except ListenError as error:
            raise error.__cause__ or OSError(str(error)) from None
        except OverflowError as error:
            # Django lets any number through; what it shows in one line is an OSError.
            raise OSError(str(error)) from error
        self.server_port: int = self._sockets[0].getsockname()[1]
        # The server takes the open sockets over, under the names of their descriptors.
        bind = tuple(f"fd://{sock.fileno()}" for sock in self._sockets)
        self._config = replace(config, bind=replace(config.bind, bind=bind))

    def set_app(self, application: Application) -> None:
        """Take the application; the second step.

        Raises ConfigError if it cannot be traced as it should be.
        """
        configure(self._config.logging, django=True)
        configure_development()
        redirect_twisted_log()
        raise_descriptor_limit()
        served = application
        logs: list[RequestLog] = [DevelopmentLog(self._style)]
        tracing = self._at_end.enter_context(
            open_tracing(self._config.tracing, self._config.lifecycle.shutdown_timeout)
        )
        if tracing is not None:
            application = tracing.put_around(application)
            logs.insert(0, tracing)
        self._server = _Server(
            application,
            self._config,
            self._runner,
            request_log=combine(logs),
            origin_policy=choose_origin_policy(
                self._config.websocket.websocket_origins
            ),
            on_ready=lambda server: self._listens(served),
        )
        if self._config.processes.processes:
            self._server.extra_time = PROCESSES_TIMEOUT

    def serve_forever(self) -> None:
        """Serve until a signal or ``stop_within`` ends it; the third step.

        Ends the process if the application cannot be started.
        """
        assert self._server is not None, "set_app() first"
        try:
            with self._at_end:
                code = run_until_stopped(self._server, self._runner)
        finally:
            self._ended.set()
        if code is not ExitCode.OK:
            # As Django's runserver does if it cannot bind: this may be any thread.
            os._exit(code)

    def stop_within(self, exit_code: int) -> None:
        """Close all connections, then ensure that the process ends in time.

        Called in another thread than the server's.
        """
        if self._server is not None and not self._ended.is_set():
            try:
                self._runner.loop.call_soon_threadsafe(self._server.stop)
            except RuntimeError:
                # The loop has been closed in the meantime.
                pass
            self._ended.wait(CLOSE_TIMEOUT)
        exit_within(THREADS_TIMEOUT, exit_code)

    def _listens(self, application: Application) -> None:
        self._close_sockets()
        import_websocket_later(application, self._runner.loop)

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            sock.close()


class _Server(Server):
    """A server whose process ends soon after it was asked to."""

    extra_time = 0.0

    def stop(self) -> None:
        super().stop()
        # In another thread it is for the main thread to end the process.
        if threading.current_thread() is threading.main_thread():
            timeout = CLOSE_TIMEOUT + THREADS_TIMEOUT + self.extra_time
            exit_within(timeout, ExitCode.OK)
