"""A server in a thread, driven by independent clients."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from djserve.server.lifecycle import Server
from djserve.testing import live
from djserve.testing.live import LiveServer

pytestmark = pytest.mark.e2e


async def echo(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        await echo_websocket(receive, send)
        return
    body = scope["path"].encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo_websocket(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def failing_start(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


def test_http_is_served_at_the_url() -> None:
    with LiveServer(echo) as server:
        response = httpx.get(f"{server.url}/some/path", timeout=60)

    assert response.text == "/some/path"


def test_websocket_is_served_at_the_ws_url() -> None:
    with (
        LiveServer(echo) as server,
        connect(f"{server.ws_url}/", open_timeout=60) as websocket,
    ):
        websocket.send("hello")

        assert websocket.recv(timeout=60) == "hello"


def test_name_with_two_addresses_has_one_port() -> None:
    with LiveServer(echo, host="localhost") as server:
        assert server.url == f"http://localhost:{server.port}"
        assert httpx.get(f"{server.url}/", timeout=60).status_code == 200


@pytest.mark.usefixtures("require_ipv6")
def test_server_can_listen_on_ipv6() -> None:
    with LiveServer(echo, host="::1") as server:
        assert server.ws_url == f"ws://[::1]:{server.port}"
        assert httpx.get(f"{server.url}/six", timeout=60).text == "/six"


def test_two_servers_run_side_by_side() -> None:
    with LiveServer(echo) as one, LiveServer(echo) as other:
        assert one.port != other.port
        assert httpx.get(f"{one.url}/1", timeout=60).text == "/1"
        assert httpx.get(f"{other.url}/2", timeout=60).text == "/2"


def test_stop_ends_the_thread_and_may_be_repeated() -> None:
    before = set(threading.enumerate())
    server = LiveServer(echo).start()
    server.stop()
    server.stop()

    left = [thread.name for thread in set(threading.enumerate()) - before]
    assert "djserve-live-server" not in left
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url, timeout=60)


def test_server_that_was_never_started_can_be_stopped() -> None:
    LiveServer(echo).stop()


def test_open_websocket_is_closed_by_stop() -> None:
    server = LiveServer(echo).start()
    with connect(f"{server.ws_url}/", open_timeout=60) as websocket:
        server.stop()

        with pytest.raises(ConnectionClosedError):
            websocket.recv(timeout=60)
        assert websocket.close_code == 1012


def test_server_that_does_not_stop_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    server = LiveServer(echo).start()
    with monkeypatch.context() as patched:
        patched.setattr(live, "STOP_TIMEOUT", 0.01)
        patched.setattr(Server, "stop", lambda self: None)
        with pytest.raises(RuntimeError, match="did not stop"):
            server.stop()
    server.stop()


def test_port_in_use_is_an_error() -> None:
    with LiveServer(echo) as server:
        other = LiveServer(echo, port=server.port)
        with pytest.raises(RuntimeError, match="listen failed"):
            other.start()


def test_failed_lifespan_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="lifespan failed"):
        LiveServer(failing_start, settings={"LIFESPAN": "on"}).start()


def test_settings_are_applied() -> None:
    with LiveServer(echo, settings={"SERVER_NAME": "mine"}) as server:
        assert httpx.get(server.url, timeout=60).headers["server"] == "mine"
