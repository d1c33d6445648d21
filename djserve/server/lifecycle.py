"""One server process: start, serve, drain, stop."""

# The order of the start and of the end
#
# The certificate is loaded before the application's start-up, which may take long and
# do much: a key that does not fit is told at once. No address is bound before the
# start-up has ended, so a client that can connect is served; with a supervisor the
# sockets are bound already, and the kernel lets connections wait. ``_is_serving`` is
# set before the first listener: on a busy address requests come while the second one is
# being opened.
#
# At the end, in this order:
#
# 1. The listeners stop. Until then a connection that is drained would be followed by a
#    new one. What waits in the kernel's queue is accepted first: its clients have
#    connected, and would be reset. At a stop at once it is left to other workers.
#    QUIC's sockets stay open, since all connections share them; they take no new ones.
# 2. Connections are drained, and after them calls, which may outlive their connection.
#    A second signal or the deadline cuts both short.
# 3. What is left is cancelled and gets ``CANCEL_TIMEOUT`` to clean up, then the
#    transports are dropped.
# 4. QUIC's sockets close: the last packets, with the reasons, have gone.
# 5. The application's shutdown: no call runs any more that could need what it closes.
# 6. The sweep, last of all, since every timeout above comes from it.
#
# A stop that comes during the start cancels it. The application is then told of the
# shutdown only if its start-up had ended, as the lifespan protocol has it.

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import contextmanager, suppress
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING

from djserve.acme.challenges import find_tls_challenge
from djserve.asgi.application import ApplicationCalls
from djserve.asgi.forwarded import TrustedProxies
from djserve.asgi.lifespan import Lifespan
from djserve.asgi.scope import ScopeBuilder
from djserve.errors import ConfigError, LifespanError, ListenError
from djserve.net.binding import unix_file
from djserve.net.courtesy import Courtesy
from djserve.net.descriptors import DescriptorWatch
from djserve.net.forks import ForkGuard
from djserve.net.listeners import Listener, open_listeners
from djserve.net.signals import STOP_SIGNALS, find_signal, handle_signal
from djserve.server import first_signals
from djserve.server.deadlines import Sweep, choose_interval
from djserve.server.factory import ConnectionFactory, load_protocols
from djserve.server.stop_guard import StopGuard
from djserve.system import is_real_interrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from djserve.asgi.origin import OriginPolicy
    from djserve.asgi.types import Application
    from djserve.conf.schema import (
        ACMEConfig,
        HTTP2Config,
        HTTPConfig,
        ProxyConfig,
        ServerConfig,
        TLSConfig,
        WebSocketConfig,
    )
    from djserve.files.table import FileTable
    from djserve.instrumentation.events import RequestLog
    from djserve.interfaces import Ticking
    from djserve.net.certificates import Certificates
    from djserve.net.main_loop import Runner
    from djserve.server.quic import QUICServer

logger = logging.getLogger("djserve")

# Seconds for cancelled application calls to clean up after the deadline.
CANCEL_TIMEOUT = 5.0

# Seconds for which a worker that stops still accepts. The kernel's queue is lost with
# the last copy of a socket: by then the supervisor and its loader have closed theirs.
COPIES_TIME = 0.1


class ExitCode(IntEnum):
    """How the process ends; documented in docs/explanation/behaviour.md."""

    OK = 0
    LISTEN_FAILED = 1
    CONFIG_WRONG = 2
    LIFESPAN_FAILED = 3


class Server:
    """Serve one application with one configuration, once.

    ``on_ready`` is called with this server when every address accepts connections.
    With siblings, other processes accept from the same sockets.
    """

    def __init__(
        self,
        application: Application,
        config: ServerConfig,
        runner: Runner,
        *,
        request_log: RequestLog | None = None,
        origin_policy: OriginPolicy | None = None,
        files: FileTable | None = None,
        on_ready: Callable[[Server], None] | None = None,
        has_supervisor: bool = False,
        has_siblings: bool = False,
    ) -> None:
        self._config = config
        self._has_supervisor = has_supervisor
        self._has_siblings = has_siblings
        self._runner = runner
        self._loop = runner.loop
        self._on_ready = on_ready
        self._stop_requests = 0
        self._is_serving = False
        self._stop_wanted = asyncio.Event()
        self._stop_now = asyncio.Event()
        lifecycle = config.lifecycle
        self._calls = ApplicationCalls(
            application, self._loop, lifecycle.application_close_timeout
        )
        self._lifespan = Lifespan(
            application, lifecycle.lifespan, lifecycle.lifespan_timeout
        )
        self._scopes = ScopeBuilder(
            config.proxy.root_path, root_path_mode=config.proxy.root_path_mode
        )
        self._factory = ConnectionFactory(
            config, self._calls, self._scopes, request_log, origin_policy, files
        )
        self._descriptors = DescriptorWatch()
        self._sweep = Sweep(
            self._swept,
            choose_interval(
                [
                    *_timeouts(config.http, config.http2, config.websocket),
                    lifecycle.application_close_timeout,
                ]
            ),
        )
        self.listeners: list[Listener] = []
        self._redirecting: list[Listener] = []
        self._quic: QUICServer | None = None
        self.certificates: Certificates | None = None

    @property
    def has_tls(self) -> bool:
        """Whether the configuration names a certificate."""
        return self._config.tls.certfile is not None

    @property
    def urls(self) -> list[str]:
        """Where the server is found, one for each listener."""
        return [listener.url for listener in self.listeners]

    @property
    def places(self) -> list[str]:
        """What each listener listens on, for people to read."""
        return [listener.place for listener in self.listeners]

    @property
    def addresses(self) -> list[str]:
        """What each listener is bound to, those that redirect included."""
        return [listener.address for listener in (*self.listeners, *self._redirecting)]

    @property
    def is_stopping(self) -> bool:
        """Whether the end has been asked for."""
        return self._stop_requests > 0

    @property
    def calls(self) -> ApplicationCalls:
        """The calls of the application that run."""
        return self._calls

    @property
    def connection_count(self) -> int:
        """How many connections are open."""
        return len(self._factory.connections)

    @property
    def connections_refused(self) -> int:
        """How many connections were not served, for there were too many."""
        return self._factory.admission.refused

    @property
    def client_memory(self) -> int:
        """Bytes that waited for clients or from them a moment ago."""
        return self._factory.memory.size

    @property
    def websocket_waits(self) -> int:
        """How often a WebSocket was read on in a later turn."""
        return self._factory.websocket_waits

    @property
    def connections_opened(self) -> int:
        """How many connections have been opened so far."""
        return self._factory.opened

    def stop(self) -> None:
        """Ask for the end: the first time gracefully, the second time at once."""
        self._stop_requests += 1
        self._stop_wanted.set()
        if self._stop_requests > 1:
            self._stop_now.set()

    def serve_datagrams(self, number: int, folder: str) -> None:
        """Serve HTTP/3 on the UDP socket of a supervisor (``QUICServer.adopt``)."""
        if self._quic is None:
            # The configuration was changed, and the supervisor has the one before.
            os.close(number)
        else:
            self._quic.adopt(number, folder)

    def outlives(self, error: BaseException) -> bool:
        """Return whether the server survives a task or callback that raised ``error``.

        An application that serves may have tasks besides its calls; what ends these is
        told to who waits for them; the connections of others do not end for it.
        """
        if not self._is_serving:
            return False
        if isinstance(error, KeyboardInterrupt) and is_real_interrupt():
            return False
        logger.error(
            "A task or a callback of the application raised %r; the server keeps "
            "running",
            error,
        )
        return True

    def reload_certificates(self) -> None:
        """Load the certificate files again, for the connections to come."""
        if self.certificates is not None:
            self.certificates.reload()

    async def serve(self) -> ExitCode:
        """Start, serve until ``stop`` is called, and end. Logs why it cannot start."""
        try:
            await self.serve_or_raise()
        except ListenError as error:
            logger.critical("%s", error)
            return ExitCode.LISTEN_FAILED
        except LifespanError as error:
            # With the traceback of what the application has raised, if it has.
            logger.critical("%s", error, exc_info=error.__cause__)
            return ExitCode.LIFESPAN_FAILED
        except ConfigError as error:
            logger.critical("%s", error)
            return ExitCode.CONFIG_WRONG
        return ExitCode.OK

    async def serve_or_raise(self) -> None:
        """Do as ``serve``. Raises ListenError, LifespanError or ConfigError at once."""
        try:
            if not await self._start_unless_stopped():
                return
        except ListenError:
            await self._lifespan.shutdown()
            raise
        await self._stop_wanted.wait()
        await self._end()

    async def _start_unless_stopped(self) -> bool:
        """Start; give up if ``stop`` is called before the application is ready."""
        starting = asyncio.ensure_future(self._start())
        stopped = asyncio.ensure_future(self._stop_wanted.wait())
        try:
            await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                return True
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            self._stop_listening()
            await self._lifespan.shutdown()
            return False
        finally:
            stopped.cancel()

    async def _start(self) -> None:
        config = self._config
        alpn = ("h2", "http/1.1") if config.http2.http2 else ("http/1.1",)
        if config.tls.certfile is not None:
            self.certificates = _load_certificates(config.tls, config.acme, alpn)
        context = None if self.certificates is None else self.certificates.context
        if config.http3.http3 and self.certificates is not None:
            from djserve.server.quic import QUICServer

            self._quic = QUICServer(
                self._loop,
                config.tls,
                config.http,
                config.http2,
                self.certificates,
                self._factory,
                datagrams=config.http3.webtransport,
            )
        self._scopes.state = await self._lifespan.startup()
        # Before the first connection, which may come before the last listener.
        self._is_serving = True
        listen = partial(
            open_listeners,
            self._runner,
            backlog=config.bind.backlog,
            handshake_timeout=config.http.header_timeout,
            alpn=alpn,
            unix_file=unix_file(config.unix_sockets),
            trusts_proxy=_trusts_proxy(config.proxy),
            courtesy=Courtesy(self._count_held) if self._has_siblings else None,
            descriptors=self._descriptors,
        )
        try:
            for address in config.bind.bind:
                self.listeners += await listen(
                    address, self._factory.open_connection, ssl_context=context
                )
            self._factory.redirect_to(self._find_https_port())
            for address in config.redirect.redirect_http:
                self._redirecting += await listen(
                    address, self._factory.open_redirecting
                )
            if self._quic is not None and not self._has_supervisor:
                self._quic.open_beside(self.listeners)
        except ListenError:
            self._stop_listening()
            raise
        self._sweep.start(self._loop)
        if self._on_ready is not None:
            self._on_ready(self)

    def _find_https_port(self) -> int | None:
        """Return the port that clients are redirected to, None if none is known."""
        port = self._config.redirect.redirect_port
        if port is not None:
            return port
        ports = [listener.port for listener in self.listeners]
        return next((port for port in ports if port is not None), None)

    async def _end(self) -> None:
        """Drain within the deadline, cancel what is left, shut the application down."""
        if self._has_supervisor:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop_now.wait(), COPIES_TIME)
        self._stop_listening(take_waiting=not self._stop_now.is_set())
        timeout = self._config.lifecycle.shutdown_timeout
        if self.connection_count and self._says_how_it_stops():
            logger.info(
                "Stopping: %d connections with %d application calls have %g seconds "
                "to end; a second signal ends them at once",
                self.connection_count,
                len(self._calls),
                timeout,
            )
        drained = asyncio.ensure_future(self._drain())
        forced = asyncio.ensure_future(self._stop_now.wait())
        await asyncio.wait(
            {drained, forced}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )
        for task in (drained, forced):
            task.cancel()
        if not drained.done() or drained.cancelled():
            await self._force()
        if self._quic is not None:
            self._quic.close()
        await self._lifespan.shutdown()
        self._sweep.stop()

    async def _drain(self) -> None:
        await self._factory.drain(self._count_opening)
        await self._calls.wait(self._config.lifecycle.shutdown_timeout)

    def _count_held(self) -> int:
        return self.connection_count + self._count_opening()

    def _count_opening(self) -> int:
        listeners = (*self.listeners, *self._redirecting)
        count = sum(listener.opening_count for listener in listeners)
        return count if self._quic is None else count + self._quic.opening_count

    async def _force(self) -> None:
        calls = await self._calls.cancel_all(CANCEL_TIMEOUT)
        connections = self._factory.abort() + self._count_opening()
        logger.log(
            logging.WARNING if self._says_how_it_stops() else logging.DEBUG,
            "Stopped with %d application calls and %d connections still open",
            calls,
            connections,
        )

    def _says_how_it_stops(self) -> bool:
        # A shorter deadline is a development server's, which stops at each change.
        return self._config.lifecycle.shutdown_timeout >= 1

    def _stop_listening(self, *, take_waiting: bool = False) -> None:
        for listener in (*self.listeners, *self._redirecting):
            listener.stop(take_waiting=take_waiting)
        if self._quic is not None:
            self._quic.stop()

    def _swept(self) -> Iterator[Ticking]:
        yield self._factory
        yield self._calls
        yield self._descriptors
        if self.certificates is not None:
            yield self.certificates
        yield from self._factory.connections


def _load_certificates(
    config: TLSConfig, acme: ACMEConfig, alpn: Sequence[str]
) -> Certificates:
    from djserve.net.certificates import Certificates

    if "h2" in alpn:
        # Browsers choose it wherever it is offered.
        load_protocols(websocket=False)
    find_challenge = None
    if acme.acme_domains and acme.acme_challenge == "tls-alpn-01":
        find_challenge = partial(find_tls_challenge, acme)
    return Certificates(config, alpn, find_challenge)


def _trusts_proxy(config: ProxyConfig) -> Callable[[str], bool] | None:
    """Return whose connections begin with the PROXY protocol, None for none."""
    if not config.proxy_protocol:
        return None
    proxies = TrustedProxies(config.trusted_proxies)
    return lambda host: proxies.trusts(host) if host else proxies.trusts_unix


def _timeouts(
    http: HTTPConfig, http2: HTTP2Config, websocket: WebSocketConfig
) -> Iterator[float | None]:
    yield from (http2.http2_ping_interval, http2.http2_ping_timeout)
    yield http2.http2_settings_timeout
    yield from (http.header_timeout, http.keep_alive_timeout, http.body_timeout)
    yield from (http.write_timeout, http.request_timeout)
    yield from (websocket.websocket_ping_interval, websocket.websocket_ping_timeout)
    yield from (websocket.websocket_timeout, websocket.websocket_connect_timeout)
    yield websocket.websocket_close_timeout


def run_until_stopped(
    server: Server,
    runner: Runner,
    stop_signals: Sequence[signal.Signals] = STOP_SIGNALS,
) -> ExitCode:
    """Run the reactor until ``server`` has ended; it is of no further use then.

    In the main thread, ``stop_signals`` stop the server.
    """
    result = ExitCode.OK

    async def serve() -> None:
        nonlocal result
        try:
            result = await server.serve()
        finally:
            runner.stop()

    tasks: list[asyncio.Task[None]] = []
    runner.call_when_running(lambda: tasks.append(runner.loop.create_task(serve())))
    guard = ForkGuard(lambda: server.addresses, loop=runner.loop)
    with guard, _handle_signals(server, runner.loop, stop_signals):
        runner.run_loop(server.outlives)
    if tasks and tasks[0].done() and not tasks[0].cancelled():
        tasks[0].result()
    return result


@contextmanager
def _handle_signals(
    server: Server,
    loop: asyncio.AbstractEventLoop,
    stop_signals: Sequence[signal.Signals],
) -> Iterator[None]:
    """Let ``stop_signals`` stop ``server``, if this thread gets signals.

    With TLS, SIGHUP loads the certificates again. What has come before is made up for.
    """
    handled = {}
    guard = StopGuard()
    actions = dict.fromkeys(stop_signals, guard.around(server.stop))
    hang_up = find_signal("SIGHUP")
    if hang_up is not None and server.has_tls:
        actions[hang_up] = server.reload_certificates
    elif hang_up is not None and first_signals.is_holding():
        actions[hang_up] = partial(_hang_up, server)
    for number, action in actions.items():
        try:
            handled[number] = handle_signal(loop, number, action)
        except (ValueError, RuntimeError):
            break
    guard.watch(number for number in handled if number in stop_signals)
    for number in first_signals.take(handled):
        actions[number]()
    try:
        yield
    finally:
        guard.close()
        for stop_handling in reversed(handled.values()):
            stop_handling()
        first_signals.hold_again()


def _hang_up(server: Server) -> None:
    """Take a SIGHUP without anything to load again: a terminal's end, or a slip."""
    if first_signals.has_terminal():
        server.stop()
    else:
        logger.warning(
            "SIGHUP: there is nothing to load again. A server with a supervisor "
            "(--workers 2, or --supervisor on) loads new code"
        )
