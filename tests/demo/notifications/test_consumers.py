"""The WebSocket of the bell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from channels.db import database_sync_to_async
from django.contrib.auth.models import User

from demo_project.chat.models import Membership, Room
from demo_project.chat.services import messages
from demo_project.notifications import services

INBOX = "/ws/inbox/"


def test_guest_has_no_inbox(
    run: Callable[..., Any], socket: Callable[..., Any]
) -> None:
    assert run(socket(INBOX).open) is False


def test_new_connection_gets_what_is_there(
    run: Callable[..., Any], socket: Callable[..., Any], ana: User
) -> None:
    services.notify(ana, "while you were out")
    client = socket(INBOX, ana)

    async def scenario() -> Any:
        await client.open()
        welcome = await client.frame("welcome")
        await client.disconnect()
        return welcome

    welcome = run(scenario)
    assert welcome["unread"] == 1
    assert [note["text"] for note in welcome["notes"]] == ["while you were out"]


def test_marked_read_on_one_tab_is_read_on_all(
    run: Callable[..., Any], socket: Callable[..., Any], ana: User
) -> None:
    first, second = socket(INBOX, ana), socket(INBOX, ana)

    async def scenario() -> tuple[Any, Any]:
        await first.open()
        await second.open()
        await database_sync_to_async(services.notify)(ana, "new")
        new = await second.frame("notification.new")
        await first.send_json_to({"type": "mark_read", "up_to": 1})
        read = await second.frame("notification.read")
        await first.disconnect()
        await second.disconnect()
        return new, read

    new, read = run(scenario)
    assert (new["note"]["text"], new["unread"]) == ("new", 1)
    assert (read["up_to"], read["unread"]) == (1, 0)


def test_notification_reaches_nobody_else(
    run: Callable[..., Any], socket: Callable[..., Any], ana: User, ben: User
) -> None:
    client = socket(INBOX, ben)

    async def scenario() -> list[str]:
        await client.open()
        for user in (ana, ben, ana, ben):
            await database_sync_to_async(services.notify)(user, f"for {user}")
        notes = [await client.frame("notification.new") for _ in range(2)]
        await client.disconnect()
        return [frame["note"]["text"] for frame in notes]

    assert run(scenario) == ["for ben", "for ben"]


def test_activity_in_ones_rooms_is_told_and_reading_it_too(
    run: Callable[..., Any],
    socket: Callable[..., Any],
    ana: User,
    ben: User,
    vault: Room,
) -> None:
    Membership.objects.create(room=vault, user=ben)
    inbox, room = socket(INBOX, ben), socket("/ws/rooms/vault/", ben)

    async def scenario() -> tuple[Any, Any, Any]:
        await inbox.open()
        await inbox.frame("welcome")
        await database_sync_to_async(messages.post)(ana, vault, "news")
        activity = await inbox.frame("room.activity")
        await inbox.send_json_to({"type": "ping"})
        pong = await inbox.frame("pong")
        await room.open()
        await room.send_json_to({"type": "read", "position": 1})
        read = await inbox.frame("room.read")
        await inbox.disconnect()
        await room.disconnect()
        return activity, pong, read

    activity, pong, read = run(scenario)
    assert (activity["slug"], activity["position"]) == ("vault", 1)
    assert pong["rooms"]["vault"] == {"unread": 1, "version": 1}
    assert (read["slug"], read["position"]) == ("vault", 1)
