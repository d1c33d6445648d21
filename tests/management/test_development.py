"""The server behind ``runserver``, in the three steps that Django takes."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.test import override_settings

from djserve.conf.schema import TLSConfig
from djserve.management import development
from djserve.management.development import (
    DevelopmentServer,
    choose_loop,
    load_development_config,
)
from djserve.net.twisted.reactor import Reactor

pytestmark = pytest.mark.e2e


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def failing_start(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """How the process would have been made to end: timeout and exit code."""
    ends: list[tuple[float, int]] = []
    monkeypatch.setattr(
        development, "exit_within", lambda timeout, code: ends.append((timeout, code))
    )
    return ends


@pytest.fixture
def server(reactor: Reactor, ends: list[tuple[float, int]]) -> DevelopmentServer:
    config = load_development_config({})
    return DevelopmentServer(("127.0.0.1", 0), config, reactor, None)


def serve_in_thread(server: DevelopmentServer) -> threading.Thread:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    return thread


def test_limit_of_descriptors_is_raised(server: DevelopmentServer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1000), hard))
    try:
        server.set_app(application)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        server._close_sockets()


@override_settings(
    DJSERVE={
        "BIND": ["unix:/run/x.sock"],
        "ACCESS_LOG": "/var/log/x",
        "PID_FILE": "/run/x.pid",
        "CERTFILE": "/no/such/file",
        "SERVER_NAME": "mine",
    }
)
def test_settings_for_production_are_left_out() -> None:
    config = load_development_config({"REQUEST_TIMEOUT": 5.0})

    assert config.tls.certfile is None
    assert config.logging.access_log is None
    assert config.lifecycle.pid_file is None
    assert config.lifecycle.shutdown_timeout < 1
    assert config.http.server_name == "mine"
    assert config.http.request_timeout == 5.0


def test_port_is_bound_before_it_serves(server: DevelopmentServer) -> None:
    server.set_app(application)
    thread = serve_in_thread(server)
    response = httpx.get(f"http://127.0.0.1:{server.server_port}/", timeout=60)
    server.stop_within(3)
    thread.join(60)

    assert response.text == "hello"
    assert not thread.is_alive()


def test_requests_are_shown(
    server: DevelopmentServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.set_app(application)
    with caplog.at_level("INFO", "djserve.development"):
        caplog_logger = logging.getLogger("djserve.development")
        caplog_logger.addHandler(caplog.handler)
        thread = serve_in_thread(server)
        httpx.get(f"http://127.0.0.1:{server.server_port}/shown", timeout=60)
        server.stop_within(0)
        thread.join(60)
        caplog_logger.removeHandler(caplog.handler)

    assert any("HTTP GET /shown 200" in message for message in caplog.messages)


def test_address_in_use_is_an_os_error(
    server: DevelopmentServer, reactor: Reactor
) -> None:
    address = ("127.0.0.1", server.server_port)
    with pytest.raises(OSError) as caught:
        DevelopmentServer(address, load_development_config({}), reactor, None)

    assert caught.value.errno == errno.EADDRINUSE
    server._close_sockets()


def test_end_of_the_process_is_bounded(
    server: DevelopmentServer, ends: list[tuple[float, int]]
) -> None:
    server.set_app(application)
    thread = serve_in_thread(server)
    httpx.get(f"http://127.0.0.1:{server.server_port}/", timeout=60)
    server.stop_within(3)
    thread.join(60)
    server.stop_within(4)

    assert ends == [
        (development.THREADS_TIMEOUT, 3),
        (development.THREADS_TIMEOUT, 4),
    ]


def test_server_that_never_served_can_be_stopped(
    server: DevelopmentServer, ends: list[tuple[float, int]]
) -> None:
    server.stop_within(1)
    server._close_sockets()

    assert ends == [(development.THREADS_TIMEOUT, 1)]


def test_signal_in_the_main_thread_bounds_the_end(
    server: DevelopmentServer, reactor: Reactor, ends: list[tuple[float, int]]
) -> None:
    server.set_app(application)
    reactor.callWhenRunning(
        lambda: reactor.loop.call_later(0.1, os.kill, os.getpid(), signal.SIGINT)
    )
    server.serve_forever()

    ((timeout, code),) = ends
    assert timeout < 1
    assert code == 0


def test_server_whose_loop_is_closed_can_be_stopped(
    ends: list[tuple[float, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(development, "CLOSE_TIMEOUT", 0.01)
    reactor = Reactor()
    config = load_development_config({})
    server = DevelopmentServer(("127.0.0.1", 0), config, reactor, None)
    server.set_app(application)
    reactor.dispose()
    server.stop_within(3)
    server._close_sockets()

    assert ends == [(development.THREADS_TIMEOUT, 3)]


def test_failed_start_ends_the_process(
    server: DevelopmentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    server.set_app(failing_start)
    server.serve_forever()
    server._close_sockets()

    assert codes == [3]


def test_loop_that_runs_is_the_current_one(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(development, "take_main_loop_or_other", lambda: reactor)

    try:
        assert choose_loop() is reactor
        assert asyncio.get_event_loop() is reactor.loop
    finally:
        asyncio.set_event_loop(None)


def test_certificate_of_production_is_not_even_read(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    names = ("CERTFILE", "KEYFILE", "CLIENT_CA_FILE")
    given = {"CLIENT_CERTIFICATES": "required", "SNI_CERTFILES": [missing]}
    with override_settings(DJSERVE=dict.fromkeys(names, missing) | given):
        assert load_development_config({}).tls == TLSConfig()


def test_http3_of_production_is_off_without_https(tmp_path: Path) -> None:
    certfile = tmp_path / "cert.pem"
    certfile.touch()
    given = {"CERTFILE": str(certfile)}
    with override_settings(DJSERVE={"HTTP3": True, **given}):
        assert not load_development_config({}).http3.http3
        assert load_development_config(given).http3.http3


def test_port_beyond_the_last_is_an_error_of_binding(reactor: Reactor) -> None:
    with pytest.raises(OSError, match="port must be 0-65535"):
        DevelopmentServer(
            ("127.0.0.1", 99999), load_development_config({}), reactor, None
        )
