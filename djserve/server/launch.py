"""A process that serves one application: logs, process id file, start-up message.

What the commands share. ``prepare_loop`` comes first, since an application may ask
for Twisted's reactor or the event loop when it is imported; then the application is
imported, and ``launch`` serves it.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from djserve.asgi.application import takes_websockets
from djserve.asgi.origin import OriginPolicy, create_policy
from djserve.collector import collect_as_usual
from djserve.conf.loader import are_settings_loaded, read_host_settings
from djserve.errors import ConfigError
from djserve.instrumentation.access_log import open_access_log
from djserve.instrumentation.fan_out import combine, reopen_log_files
from djserve.instrumentation.logging import configure
from djserve.instrumentation.notes import preparations, view_preparations
from djserve.net.descriptors import raise_descriptor_limit
from djserve.net.forks import ForkGuard
from djserve.net.main_loop import main_loop_on, redirect_twisted_log, take_main_loop
from djserve.net.signals import STOP_SIGNALS, find_signal, handle_signal
from djserve.server import first_signals
from djserve.server.banner import describe_loop, start_lines
from djserve.server.lifecycle import ExitCode, Server, run_until_stopped
from djserve.server.observation import (
    has_metrics,
    observe,
    open_logs,
    wants_figures,
    wants_notes,
)
from djserve.server.tracing import open_tracing
from djserve.system import (
    CAN_FORK,
    NO_FOLLOW,
    WRITE,
    end_process,
    open_regular,
    read_regular,
)
from djserve.values import Values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from djserve.acme.renewal import Renewal
    from djserve.asgi.types import Application
    from djserve.conf.schema import (
        ACMEConfig,
        LoggingConfig,
        MetricsConfig,
        ServerConfig,
        WorkersConfig,
    )
    from djserve.files.table import FileTable
    from djserve.instrumentation.access_log import AccessLog
    from djserve.instrumentation.board import Board
    from djserve.instrumentation.events import RequestLog
    from djserve.net.main_loop import Runner
    from djserve.server.monitor import LocalMonitor, ThreadStats

logger = logging.getLogger("djserve.server")

THREADS_TIMEOUT = 5.0
"""Seconds for threads of the application when the server has ended, and for what else
is done at exit."""

IMPORT_DELAY = 0.5
"""Seconds from the start to the import of what only WebSocket needs."""

_WEBSOCKET = "djserve.protocols.websocket.handshake"


def prepare_loop() -> Runner:
    """Make the loop that is to run this thread's current one.

    Once the application imports Twisted, djserve's reactor is installed. Raises
    ConfigError if another reactor is installed.
    """
    runner = take_main_loop()
    asyncio.set_event_loop(runner.loop)
    return runner


def uses_django() -> bool:
    """Return whether the application that was imported is a project of Django's."""
    return are_settings_loaded()


def choose_origin_policy(origins: Sequence[str]) -> OriginPolicy | None:
    """Return which pages may open a WebSocket; None if nothing says so.

    Django's settings say it. Without Django only WEBSOCKET_ORIGINS does, and the page's
    own host is added to these.
    """
    hosts = read_host_settings() if uses_django() else None
    if hosts is not None:
        trusted = (*hosts.trusted_origins, *origins)
        return create_policy(hosts.allowed_hosts, trusted, debug=hosts.debug)
    if not origins:
        return None
    return OriginPolicy(None, tuple(origins))


class Watch(Values):
    """Who watches a server, and what for.

    ``on_ready`` is called once every address accepts connections. Figures are kept on
    ``board``, if there is one. ``around`` is put around the application. A supervisor
    gives the server its UDP sockets later. With siblings, other processes accept from
    the same sockets.
    """

    on_ready: Callable[[Server], None]
    board: Board | None = None
    around: Callable[[Application], Application] = lambda application: application
    is_supervisor: bool = False
    has_siblings: bool = False


def launch(
    application: Application,
    config: ServerConfig,
    runner: Runner,
    notes: Sequence[str] = (),
    thread_stats: ThreadStats | None = None,
    files: FileTable | None = None,
) -> ExitCode:
    """Serve until a signal ends it, and return how the process ends.

    ``notes`` are lines for the start-up message. Raises ConfigError if a log or the
    process id file cannot be opened.
    """
    configure(config.logging, django=uses_django())
    renewal = open_renewal(config.acme, config.workers)
    monitor = _create_monitor(config.metrics, runner, thread_stats)

    def on_ready(server: Server) -> None:
        if renewal is not None:
            renewal.start(runner.loop.call_later, runner.loop.time)
        if monitor is not None:
            monitor.start(server)
        _announce(server, config, runner, notes)

    watch = Watch(on_ready)
    if monitor is not None:
        watch = Watch(on_ready, monitor.board, monitor.put_around)
    with pid_file(config.lifecycle.pid_file):
        try:
            return serve_application(application, config, runner, watch, files=files)
        finally:
            if monitor is not None:
                monitor.publish_last()
            if renewal is not None:
                renewal.close()


def open_renewal(acme: ACMEConfig, workers: WorkersConfig) -> Renewal | None:
    """Return what orders the certificates, None unless ACME_DOMAINS asks for it.

    There is a certificate afterwards, if only a self-signed one. Raises ConfigError.
    """
    if not acme.acme_domains:
        return None
    from djserve.acme.folder import Owner
    from djserve.acme.renewal import Renewal

    return Renewal(acme, Owner(workers.user, workers.group))


def _create_monitor(
    config: MetricsConfig, runner: Runner, thread_stats: ThreadStats | None
) -> LocalMonitor | None:
    if not (has_metrics(config) or config.health):
        return None
    from djserve.server.monitor import LocalMonitor

    return LocalMonitor(config, runner, thread_stats)


def serve_application(
    application: Application,
    config: ServerConfig,
    runner: Runner,
    watch: Watch,
    stop_signals: Sequence[signal.Signals] = STOP_SIGNALS,
    files: FileTable | None = None,
) -> ExitCode:
    """Serve until a signal ends it, in a process whose logs are set up.

    Raises ConfigError if the access log cannot be opened, or traces be made.
    """
    collect_as_usual()
    redirect_twisted_log()
    raise_descriptor_limit()
    with (
        _access_log(config.logging, runner) as access_log,
        _open_server(application, config, runner, watch, access_log, files) as server,
    ):
        return run_until_stopped(server, runner, stop_signals)


async def serve_embedded(
    application: Application,
    config: ServerConfig,
    stop: asyncio.Event | None,
    on_ready: Callable[[list[str]], object] | None,
    files: FileTable | None,
) -> None:
    """Serve on the running loop until ``stop`` is set or the caller is cancelled.

    ``on_ready`` is called with the URLs. Raises ConfigError, ListenError or
    LifespanError.
    """
    loop = asyncio.get_running_loop()
    with ExitStack() as at_end:
        runner = at_end.enter_context(main_loop_on(loop))
        at_end.enter_context(pid_file(config.lifecycle.pid_file))
        renewal = open_renewal(config.acme, config.workers)
        if renewal is not None:
            at_end.callback(renewal.close)
        monitor = _create_monitor(config.metrics, runner, None)
        if monitor is not None:
            at_end.callback(monitor.close)

        def note_ready(server: Server) -> None:
            if renewal is not None:
                renewal.start(loop.call_later, loop.time)
            if monitor is not None:
                monitor.start(server)
            if on_ready is not None:
                on_ready(server.urls)

        watch = Watch(note_ready)
        if monitor is not None:
            watch = Watch(note_ready, monitor.board, monitor.put_around)
        log = open_access_log(config.logging, loop.call_later)
        if log is not None:
            at_end.callback(log.close)
        served = _open_server(application, config, runner, watch, log, files)
        server = at_end.enter_context(served)
        at_end.enter_context(ForkGuard(lambda: server.addresses, loop=loop))
        await _serve_until(server, stop)


async def _serve_until(server: Server, stop: asyncio.Event | None) -> None:
    """Serve until the event or a cancellation, which the caller gets at the end."""
    serving = asyncio.ensure_future(server.serve_or_raise())
    serving.add_done_callback(lambda task: waiting.cancel())
    waiting = asyncio.ensure_future((stop or asyncio.Event()).wait())

    def stop_unless_over(task: asyncio.Future[Any]) -> None:
        if not task.cancelled():
            server.stop()

    waiting.add_done_callback(stop_unless_over)
    cancelled: asyncio.CancelledError | None = None
    while not serving.done():
        try:
            # Unlike an await of the task itself, this is not passed on to it.
            await asyncio.wait({serving})
        except asyncio.CancelledError as error:
            cancelled = error
            server.stop()
    serving.result()
    if cancelled is not None:
        raise cancelled


@contextmanager
def _open_server(
    application: Application,
    config: ServerConfig,
    runner: Runner,
    watch: Watch,
    access_log: AccessLog | None,
    files: FileTable | None,
) -> Iterator[Server]:
    """Give the server, its logs open; it is still to be run."""
    if wants_notes(config.logging):
        preparations.run()
    if watch.board is not None and has_metrics(config.metrics):
        view_preparations.run()
    with open_tracing(config.tracing, config.lifecycle.shutdown_timeout) as tracing:
        logs: list[RequestLog] = [] if tracing is None else [tracing]
        logs += [] if access_log is None else [access_log]
        is_read = wants_figures(config.metrics, config.workers)
        logs += open_logs(config.logging, watch.board if is_read else None)
        served = application

        def on_ready(server: Server) -> None:
            watch.on_ready(server)
            import_websocket_later(served, runner.loop)

        counts = has_metrics(config.metrics)
        application = observe(
            application, config.logging, watch.board if counts else None
        )
        if tracing is not None:
            application = tracing.put_around(application)
        yield Server(
            watch.around(application),
            config,
            runner,
            request_log=combine(logs),
            origin_policy=choose_origin_policy(config.websocket.websocket_origins),
            files=files,
            on_ready=on_ready,
            has_supervisor=watch.is_supervisor,
            has_siblings=watch.has_siblings,
        )


def _announce(
    server: Server, config: ServerConfig, runner: Runner, notes: Sequence[str]
) -> None:
    loop = describe_loop(runner.loop)
    for line in start_lines(
        server.places,
        loop,
        notes,
        http2=config.http2.http2,
        http3=config.http3.http3,
        tls=server.has_tls,
        access_log=config.logging.access_log,
    ):
        logger.info("%s", line)


@contextmanager
def _access_log(config: LoggingConfig, runner: Runner) -> Iterator[AccessLog | None]:
    """Open the access log; SIGUSR1 opens all log files again after their rotation."""
    log = open_access_log(config, runner.loop.call_later)

    def reopen() -> None:
        if log is not None:
            log.reopen()
        reopen_log_files()

    number = find_signal("SIGUSR1")
    stop_handling = None
    try:
        if number is not None:
            stop_handling = handle_signal(runner.loop, number, reopen)
            if first_signals.take([number]):
                reopen()
    except (ValueError, RuntimeError):
        # Not in the main thread: the caller manages its own logs there.
        pass
    try:
        yield log
    finally:
        if stop_handling is not None:
            stop_handling()
            first_signals.hold_again()
        if log is not None:
            log.close()


@contextmanager
def pid_file(path: str | None) -> Iterator[None]:
    """Keep the process id in a file, removed at the end unless it is another's now."""
    if path is None:
        yield
        return
    own = f"{os.getpid()}\n"
    try:
        # As root may: a link that another user has put there leads away.
        flags = WRITE | os.O_CREAT | NO_FOLLOW
        with open(open_regular(path, flags, 0o644), "w", encoding="ascii") as file:
            file.truncate()
            file.write(own)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.ELOOP:
            reason = "it is a symbolic link"
        raise ConfigError([f"PID_FILE {path!r} cannot be written: {reason}"]) from error
    try:
        yield
    finally:
        _remove_pid_file(path, own)


def _remove_pid_file(path: str, own: str) -> None:
    try:
        if read_regular(path) == own.encode("ascii"):
            os.unlink(path)
    except OSError:
        # Gone already, or no longer ours to remove.
        return


def exit_within(timeout: float, exit_code: int) -> None:
    """End the process in ``timeout`` seconds if it has not ended by itself.

    Python joins the threads of every executor before it ends: a view that sleeps, or a
    consumer that waits for its broker, would hold up each reload.
    """
    timer = threading.Timer(timeout, end_process, (exit_code,))
    timer.daemon = True
    timer.start()


def import_websocket_later(
    application: Application, loop: asyncio.AbstractEventLoop
) -> None:
    """Import WebSocket beside the loop once the requests at the door are answered.

    Those have waited for the start, and would share the processor with it.
    """
    loop.call_later(IMPORT_DELAY, import_websocket_beside, application)


def import_websocket_beside(application: Application) -> threading.Thread | None:
    """Import WebSocket in a thread; None if it is there or will not be needed.

    Autobahn takes a fifth of a second of CPU time and 18 MiB. Imported before the
    server listens it would delay every start; imported at the first WebSocket it would
    hold up all connections, so a thread does it, between the loop's turns.
    """
    if _WEBSOCKET in sys.modules or not takes_websockets(application):
        return None
    # Not a daemon, which Python stops in the midst of the import as it ends: what is
    # imported after that would wait for the import's locks for ever.
    thread = threading.Thread(
        target=_import_websocket, name="djserve-import", daemon=False
    )
    thread.start()
    # In a child that was forked now, its import locks would stay locked for good.
    if CAN_FORK:
        os.register_at_fork(before=thread.join)
    return thread


def _import_websocket() -> None:
    # Whatever is wrong is logged with the first WebSocket, which needs it.
    with suppress(Exception):
        importlib.import_module(_WEBSOCKET)
