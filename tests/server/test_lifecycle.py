"""A server from its start to its end, on a reactor of its own in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from djserve.conf.schema import (
    BindConfig,
    DrainConfig,
    HTTPConfig,
    LifecycleConfig,
    ServerConfig,
    TLSConfig,
)
from djserve.net.courtesy import Courtesy
from djserve.net.main_loop import new_event_loop
from djserve.net.twisted.reactor import Reactor
from djserve.protocols.http1.connection import HTTP1Connection
from djserve.server import lifecycle
from djserve.server.lifecycle import ExitCode, Server, run_until_stopped
from tests.support.logs import own_records
from tests.support.waiting import PATIENCE, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from djserve.asgi.types import Application, Receive, Scope, Send

pytestmark = pytest.mark.e2e

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Site:
    """An application that says what happens to it and can be held up."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.entered = threading.Event()
        self.holds = False
        self._gate = asyncio.Event()

    def release(self, running: Running) -> None:
        """Let the request that is held up go on."""
        running.reactor.loop.call_soon_threadsafe(self._gate.set)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        self.entered.set()
        try:
            if self.holds:
                await self._gate.wait()
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"ok"})
        self.events.append("answered")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        for phase in ("startup", "shutdown"):
            await receive()
            self.events.append(phase)
            await send({"type": f"lifespan.{phase}.complete"})


class Running:
    """A server that runs in a thread until it is stopped."""

    def __init__(
        self,
        application: Application,
        *,
        is_uvloop: bool = True,
        has_supervisor: bool = False,
        has_siblings: bool = False,
        **groups: Any,
    ) -> None:
        self.reactor = Reactor(new_event_loop(prefer_uvloop=is_uvloop))
        self.ready = threading.Event()
        self.exit_code: ExitCode | None = None
        groups.setdefault("bind", BindConfig(bind=("127.0.0.1:0",)))
        self.server = Server(
            application,
            ServerConfig(**groups),
            self.reactor,
            on_ready=lambda server: self.ready.set(),
            has_supervisor=has_supervisor,
            has_siblings=has_siblings,
        )
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.exit_code = run_until_stopped(self.server, self.reactor)
        finally:
            self.ready.set()
            self.reactor.dispose()

    @property
    def port(self) -> int:
        return int(self.server.urls[0].rstrip("/").rpartition(":")[2])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 60)

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.reactor.loop.call_soon_threadsafe(self.server.stop)

    def wait(self) -> ExitCode:
        self.thread.join(60)
        assert not self.thread.is_alive()
        assert self.exit_code is not None
        return self.exit_code


@contextlib.contextmanager
def held_loop(running: Running) -> Iterator[None]:
    """Keep the server's loop from any turn."""
    entered, released = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        released.wait(PATIENCE)

    running.reactor.loop.call_soon_threadsafe(hold)
    assert entered.wait(PATIENCE)
    try:
        yield
    finally:
        released.set()


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    """Give ``run(application, **groups)``, which returns once the server is ready."""
    started: list[Running] = []

    def start(application: Application, **groups: Any) -> Running:
        started.append(Running(application, **groups))
        assert started[-1].ready.wait(120)
        return started[-1]

    yield start
    for running in started:
        running.stop()
        running.stop()
        running.thread.join(60)
        assert not running.thread.is_alive()


def receive_all(client: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := client.recv(65536):
            data += chunk
    return data


def test_server_serves_and_stops(run: Callable[..., Running], site: Site) -> None:
    running = run(site)
    client = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    client.request("GET", "/")
    assert client.getresponse().read() == b"ok"
    client.close()

    running.stop()
    assert running.wait() is ExitCode.OK
    assert site.events == ["startup", "answered", "shutdown"]


@pytest.mark.parametrize(("has_siblings", "counted"), [(True, [0, 1, 2]), (False, [])])
def test_server_counts_what_it_has_if_others_accept_too(
    run: Callable[..., Running],
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    has_siblings: bool,
    counted: list[int],
) -> None:
    found: list[int] = []

    class Counting(Courtesy):
        def connection_accepted(self) -> None:
            found.append(self._count_held())

    monkeypatch.setattr(lifecycle, "Courtesy", Counting)
    running = run(site, has_siblings=has_siblings)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(running.connect())
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")

    assert found == counted


def test_server_outlives_a_task_of_the_application(
    run: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        asyncio.get_running_loop().call_soon(sys.exit, 3)
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"alive"})

    running = run(app)
    for _ in range(2):
        with running.connect() as client:
            client.sendall(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            assert receive_all(client).endswith(b"alive")
    running.stop()

    assert running.wait() is ExitCode.OK
    said = "A task or a callback of the application raised SystemExit(3)"
    assert sum(r.getMessage().startswith(said) for r in caplog.records) == 2


@pytest.mark.parametrize("is_uvloop", [True, False], ids=["uvloop", "asyncio"])
def test_requests_that_wait_to_be_accepted_are_answered_at_the_stop(
    run: Callable[..., Running], site: Site, is_uvloop: bool
) -> None:
    # With siblings, few are accepted in a turn of the loop.
    running = run(site, is_uvloop=is_uvloop, has_siblings=True)
    answers: list[bytes] = []
    with contextlib.ExitStack() as stack:
        with held_loop(running):
            clients = [stack.enter_context(running.connect()) for _ in range(40)]
            for client in clients:
                client.sendall(GET)
            running.stop()
        answers += [client.recv(15) for client in clients]
    assert running.wait() == ExitCode.OK
    assert answers == [b"HTTP/1.1 200 OK"] * 40


def test_stop_at_once_leaves_what_waits_to_other_workers(
    run: Callable[..., Running], site: Site
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as shared:
        bind = BindConfig(bind=(f"fd://{os.dup(shared.fileno())}",))
        running = run(site, has_siblings=True, bind=bind)
        with contextlib.ExitStack() as stack:
            with held_loop(running):
                for _ in range(40):
                    stack.enter_context(running.connect())
                running.stop()
                running.stop()
            assert running.wait() == ExitCode.OK
            shared.settimeout(60)
            shared.accept()[0].close()


def test_worker_accepts_until_other_copies_of_its_socket_are_closed(
    run: Callable[..., Running], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "COPIES_TIME", 2.0)
    shared = socket.create_server(("127.0.0.1", 0))
    bind = BindConfig(bind=(f"fd://{os.dup(shared.fileno())}",))
    running = run(site, has_supervisor=True, bind=bind)

    async def stop_and_connect() -> socket.socket:
        running.server.stop()
        await settle()
        client = running.connect()
        client.sendall(GET)
        shared.close()
        return client

    loop = running.reactor.loop
    client = asyncio.run_coroutine_threadsafe(stop_and_connect(), loop).result(60)
    with client:
        assert client.recv(15) == b"HTTP/1.1 200 OK"
    assert running.wait() == ExitCode.OK


def test_idle_connection_is_closed_at_the_stop(
    run: Callable[..., Running], site: Site
) -> None:
    running = run(site, drain=DrainConfig(drain_idle_timeout=0.05))
    with running.connect() as client:
        client.sendall(GET)
        assert client.recv(4096).endswith(b"ok")
        running.stop()

        assert client.recv(4096) == b""
    assert running.wait() is ExitCode.OK


def test_request_under_way_finishes(run: Callable[..., Running], site: Site) -> None:
    site.holds = True
    running = run(site, lifecycle=LifecycleConfig(shutdown_timeout=600))
    with running.connect() as client:
        client.sendall(GET)
        assert site.entered.wait(60)
        running.stop()
        deadline = time.monotonic() + PATIENCE
        with pytest.raises(ConnectionRefusedError):
            while time.monotonic() < deadline:
                # One that was in the queue when the listener closed is reset.
                with contextlib.suppress(ConnectionResetError):
                    running.connect().close()
                time.sleep(0.01)
        site.release(running)

        answer = receive_all(client)
    assert answer.endswith(b"\r\n\r\nok")
    assert b"connection: close\r\n" in answer
    assert running.wait() is ExitCode.OK
    assert site.events == ["startup", "answered", "shutdown"]


def test_deadline_cancels_what_still_runs(
    run: Callable[..., Running], site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "djserve")
    site.holds = True
    running = run(site, lifecycle=LifecycleConfig(shutdown_timeout=1))
    with running.connect() as client:
        client.sendall(GET)
        assert site.entered.wait(60)
        running.stop()

        assert receive_all(client)[:12] in (b"", b"HTTP/1.1 503")
    assert running.wait() is ExitCode.OK
    assert site.events == ["startup", "cancelled", "shutdown"]
    assert "1 connections with 1 application calls have 1 seconds" in caplog.text
    assert "Stopped with 1 application calls" in caplog.text


def test_short_deadline_of_development_is_no_news(
    run: Callable[..., Running], site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "djserve")
    site.holds = True
    running = run(site, lifecycle=LifecycleConfig(shutdown_timeout=0.2))
    with running.connect() as client:
        client.sendall(GET)
        assert site.entered.wait(60)
        running.stop()
        receive_all(client)
    assert running.wait() is ExitCode.OK

    assert "Stop" not in caplog.text


def test_second_stop_is_at_once(run: Callable[..., Running], site: Site) -> None:
    site.holds = True
    running = run(site, lifecycle=LifecycleConfig(shutdown_timeout=600))
    with running.connect() as client:
        client.sendall(GET)
        assert site.entered.wait(60)
        running.stop()
        running.stop()
        # Far earlier than the timeout of the first stop.
        assert running.wait() is ExitCode.OK

    assert site.events == ["startup", "cancelled", "shutdown"]


def test_address_in_use_is_one_clear_line(
    run: Callable[..., Running], site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        running = run(site, bind=BindConfig(bind=("127.0.0.1:0", address)))

        assert running.wait() is ExitCode.LISTEN_FAILED
    assert site.events == ["startup", "shutdown"]
    [record] = own_records(caplog, logging.ERROR)
    assert record.getMessage().startswith(f"Cannot listen on {address}: ")
    assert "\n" not in record.getMessage()
    assert record.exc_info is None


def test_failed_listener_takes_the_others_down(
    run: Callable[..., Running], site: Site
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        running = run(site, bind=BindConfig(bind=("127.0.0.1:0", address)))
        running.wait()

        with pytest.raises(ConnectionRefusedError):
            running.connect()


def test_failed_startup_is_one_clear_line(
    run: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "No database"})

    running = run(app, lifecycle=LifecycleConfig(lifespan="on"))

    assert running.wait() is ExitCode.LIFESPAN_FAILED
    assert running.server.listeners == []
    critical = own_records(caplog, logging.CRITICAL)
    assert len(critical) == 1
    assert "No database" in critical[0].getMessage()


@pytest.mark.parametrize("kind", [SystemExit, BaseException])
def test_startup_that_raises_is_logged_with_its_traceback(
    run: Callable[..., Running],
    caplog: pytest.LogCaptureFixture,
    kind: type[BaseException],
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise kind("No database")

    assert run(app).wait() is ExitCode.LIFESPAN_FAILED
    (critical,) = own_records(caplog, logging.CRITICAL)
    assert critical.exc_info is not None
    assert critical.exc_info[0] is kind


def test_stop_during_a_slow_startup_ends_it() -> None:
    entered = threading.Event()
    events: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            events.append("cancelled")

    running = Running(app)
    assert entered.wait(60)
    running.stop()

    assert running.wait() is ExitCode.OK
    assert events == ["cancelled"]
    assert running.server.listeners == []


def test_wrong_certificate_is_one_clear_line(
    run: Callable[..., Running], site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    running = run(site, tls=TLSConfig(certfile="/nonexistent/cert.pem"))

    assert running.wait() is ExitCode.CONFIG_WRONG
    assert site.events == []
    [record] = own_records(caplog, logging.ERROR)
    assert "/nonexistent/cert.pem" in record.getMessage()


def test_state_of_the_lifespan_is_in_each_scope(run: Callable[..., Running]) -> None:
    states: list[dict[str, Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["pool"] = "open"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        states.append(scope["state"])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    running = run(app, drain=DrainConfig(drain_idle_timeout=0))
    with running.connect() as client:
        client.sendall(GET * 2)
        client.recv(65536)
        running.stop()
        receive_all(client)

    assert states[0] == {"pool": "open"}
    assert running.wait() is ExitCode.OK


def test_short_timeouts_are_kept(
    run: Callable[..., Running], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    tick = HTTP1Connection.tick

    def count(connection: HTTP1Connection, now: float) -> None:
        looks.append(now)
        tick(connection, now)

    monkeypatch.setattr(HTTP1Connection, "tick", count)
    running = run(site, http=HTTPConfig(header_timeout=0.1))
    sent = threading.Event()
    # The time does not begin before the bytes are there that are to be answered.
    running.reactor.loop.call_soon_threadsafe(sent.wait, PATIENCE)
    with running.connect() as client:
        client.sendall(GET[:10])
        sent.set()

        assert receive_all(client).startswith(b"HTTP/1.1 408 ")
    # They are 25 ms apart or more: the default would be met after hundreds of them.
    assert len(looks) < 200
