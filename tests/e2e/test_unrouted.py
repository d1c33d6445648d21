"""A WebSocket to a path that the application does not route, over real sockets."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import websockets.exceptions
import websockets.sync.client
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from djserve.asgi.types import Receive, Scope, Send
from djserve.handlers import ASGIHandler
from djserve.testing.live import LiveServer

pytestmark = pytest.mark.e2e

TIMEOUT = 60


class Faulty(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        raise LookupError("lost")


CONSUMER: Any = Faulty.as_asgi()
HANDLER = ASGIHandler()
APPLICATION = ProtocolTypeRouter({"websocket": URLRouter([path("faulty/", CONSUMER)])})


def refusal_of(url: str) -> int:
    """Return the status of the response that refuses a WebSocket."""
    with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
        websockets.sync.client.connect(url, open_timeout=TIMEOUT)
    status: int = caught.value.response.status_code
    return status


async def with_cors(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand around Django's handler, as many packages' middleware does."""
    await HANDLER(scope, receive, send)


@pytest.mark.parametrize("application", [APPLICATION, with_cors])
def test_client_is_told_404_and_the_log_one_line(
    application: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with LiveServer(application, settings={"LIFESPAN": "off"}) as server:
        assert refusal_of(f"{server.ws_url}/missing/") == 404

    (record,) = [r for r in caplog.records if r.name == "djserve.error"]
    assert record.levelno == logging.WARNING
    assert record.message.startswith("No route for a WebSocket to /missing/ from 127.")
    assert record.exc_info is None


def test_fault_of_a_consumer_is_still_told_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with LiveServer(APPLICATION, settings={"LIFESPAN": "off"}) as server:
        assert refusal_of(f"{server.ws_url}/faulty/") == 500

    (record,) = [r for r in caplog.records if r.name == "djserve.error"]
    assert record.exc_info is not None
