"""The live-server test cases, used as a project would use them."""

from __future__ import annotations

from typing import Any, ClassVar

import httpx
import pytest
from asgiref.sync import SyncToAsync, sync_to_async
from django.contrib.auth.models import User
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import override_settings
from websockets.sync.client import connect

from djserve.testing.testcases import (
    ChannelsLiveServerTestCase,
    DjserveLiveServerTestCase,
    ServerThread,
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.django_db(transaction=True, serialized_rollback=False),
]


async def count_users(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the number of users; over WebSocket, add the user that is named."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        await add_users(receive, send)
        return
    body = b"%d" % await User.objects.acount()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def add_users(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await sync_to_async(User.objects.create)(username=message["text"])
        await send({"type": "websocket.send", "text": "added"})


class TestOwnApplication(DjserveLiveServerTestCase):
    application: ClassVar[Any] = staticmethod(count_users)

    def test_server_sees_the_rows_of_the_test(self) -> None:
        User.objects.create(username="anna")

        assert httpx.get(self.live_server_url, timeout=60).text == "1"

    def test_test_sees_the_rows_of_the_server(self) -> None:
        with connect(f"{self.live_server_ws_url}/", open_timeout=60) as websocket:
            websocket.send("ben")
            assert websocket.recv(timeout=60) == "added"

        assert User.objects.get().username == "ben"


class TestProject(DjserveLiveServerTestCase):
    def test_views_are_served(self) -> None:
        assert (
            httpx.get(f"{self.live_server_url}/accounts/login/", timeout=60).status_code
            == 200
        )

    def test_static_files_are_served(self) -> None:
        response = httpx.get(
            f"{self.live_server_url}/static/demo/css/site.css", timeout=60
        )

        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/css")

    def test_settings_of_a_test_are_those_of_the_server(self) -> None:
        with override_settings(LOGIN_REDIRECT_URL="/elsewhere/"):
            response = httpx.get(
                f"{self.live_server_url}/", follow_redirects=False, timeout=60
            )

        assert response.status_code < 400


class TestWithoutStaticFiles(DjserveLiveServerTestCase):
    serve_static = False

    def test_static_files_are_not_served(self) -> None:
        response = httpx.get(
            f"{self.live_server_url}/static/demo/css/site.css", timeout=60
        )

        assert response.status_code == 404


class TestLikeChannels(ChannelsLiveServerTestCase):
    application: ClassVar[Any] = staticmethod(count_users)

    def test_attributes_are_those_of_channels(self) -> None:
        port = self.live_server_url.rpartition(":")[2]

        assert self.live_server_url == f"http://localhost:{port}"
        assert self.live_server_ws_url == f"ws://localhost:{port}"
        assert self.serve_static

    def test_static_files_are_in_front_of_the_application(self) -> None:
        response = httpx.get(
            f"{self.live_server_url}/static/demo/css/site.css", timeout=60
        )

        assert response.status_code == 200


@override_settings(DJSERVE={"NO_SUCH_KEY": 1})
def test_wrong_settings_are_left_in_error() -> None:
    thread = ServerThread("localhost", None)
    thread.start()

    assert "NO_SUCH_KEY" in str(thread.error)
    thread.terminate()


@override_settings(DJSERVE={"BIND": ["127.0.0.1:1"], "SERVER_NAME": "project"})
def test_settings_of_the_project_apply_save_its_addresses() -> None:
    thread = ServerThread("127.0.0.1", None)
    thread.application = count_users
    thread.start()
    try:
        assert thread.error is None
        response = httpx.head(f"http://127.0.0.1:{thread.port}/", timeout=60)
        assert response.headers["server"] == "project"
    finally:
        thread.terminate()
        # Its own close() leaves a database in memory open.
        closing = SyncToAsync.single_thread_executor.submit(close_for_good)
        closing.result(60)


def close_for_good() -> None:
    for connection in connections.all(initialized_only=True):
        BaseDatabaseWrapper.close(connection)
