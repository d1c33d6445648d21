"""What every WebSocket of the site shares."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import Client

from demo_project.chat.models import Room
from demo_project.realtime import consumer
from demo_project.realtime.groups import GROUPS_LAYER, room_group
from demo_project.realtime.limits import TokenBucket

LOBBY = "/ws/rooms/lobby/"


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "{",
        "[]",
        "1",
        '{"type": "fly"}',
        '{"type": {"a": 1}}',
        '{"type": "connect"}',
        "[" * 60_000,
        '{"type":' * 8_000,
        '{"type": "ping", "nonce": ' + "9" * 5_000 + "}",
    ],
    ids=lambda text: text[:30],
)
def test_frame_that_is_no_command_is_answered_with_an_error(
    run: Callable[..., Any], socket: Callable[..., Any], lobby: Room, text: str
) -> None:
    client = socket(LOBBY)

    async def scenario() -> Any:
        await client.open()
        await client.send_to(text_data=text)
        error = await client.frame("error")
        await client.send_json_to({"type": "ping"})
        await client.frame("pong")
        await client.disconnect()
        return error

    assert run(scenario)["code"] == "invalid"


def test_binary_frame_is_answered_with_an_error(
    run: Callable[..., Any], socket: Callable[..., Any], lobby: Room
) -> None:
    client = socket(LOBBY)

    async def scenario() -> Any:
        await client.open()
        await client.send_to(bytes_data=b"\x00\x01")
        error = await client.frame("error")
        await client.disconnect()
        return error

    assert run(scenario)["detail"] == "Unknown command."


def test_flood_of_frames_closes_the_connection(
    run: Callable[..., Any],
    socket: Callable[..., Any],
    lobby: Room,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # All of them come at the same moment, however slow the machine is.
    standing = partial(TokenBucket, clock=lambda: 0.0)
    monkeypatch.setattr(consumer, "TokenBucket", standing)
    client = socket(LOBBY)

    async def scenario() -> int:
        await client.open()
        for _ in range(100):
            await client.send_to(text_data="{}")
        code: int = await client.close_code()
        return code

    assert run(scenario) == 4429


def test_connection_that_its_group_forgot_joins_again_with_a_ping(
    run: Callable[..., Any],
    socket: Callable[..., Any],
    lobby: Room,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consumer, "_REJOIN_SECONDS", -1.0)
    client = socket(LOBBY)

    async def scenario() -> str:
        await client.open()
        await client.frame("welcome")
        layer = get_channel_layer(GROUPS_LAYER)
        layer.groups.clear()
        await client.send_json_to({"type": "ping"})
        await client.frame("pong")
        event = {"type": "person.typing", "user": 1, "name": "ana"}
        await layer.group_send(room_group(lobby.pk), event)
        name: str = (await client.frame("typing"))["name"]
        return name

    assert run(scenario) == "ana"


@pytest.mark.parametrize(
    ("origin", "opens"),
    [
        (b"http://testserver", True),
        (b"http://evil.example", False),
        (b"http://testserver.evil.example", False),
        (b"null", False),
        (None, False),
    ],
)
def test_websocket_opens_for_the_sites_own_origin_only(
    run: Callable[..., Any], ana: User, lobby: Room, origin: bytes | None, opens: bool
) -> None:
    from demo_project.asgi import application

    browser = Client()
    browser.force_login(ana)
    cookie = f"sessionid={browser.cookies['sessionid'].value}".encode()
    headers = [(b"host", b"testserver"), (b"cookie", cookie)]
    if origin is not None:
        headers.append((b"origin", origin))
    client = WebsocketCommunicator(application, "/ws/inbox/", headers)

    async def scenario() -> bool:
        opened, _ = await client.connect()
        if opened:
            await client.disconnect()
        return bool(opened)

    assert run(scenario) is opens
