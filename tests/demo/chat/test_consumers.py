"""The WebSocket of a room."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client

from demo_project.chat import consumers
from demo_project.chat.models import Membership, Message, Room
from demo_project.chat.presence import announce_people
from demo_project.chat.services import messages, rooms
from demo_project.realtime.groups import GROUPS_LAYER, room_group
from demo_project.realtime.limits import TokenBucket
from demo_project.realtime.models import Connection

Run = Callable[..., Any]
Sockets = Callable[..., Any]

LOBBY = "/ws/rooms/lobby/"
VAULT = "/ws/rooms/vault/"


def new_message(text: str) -> dict[str, Any]:
    return {"type": "send", "nonce": str(uuid.uuid4()), "text": text}


def test_message_reaches_everyone_in_the_room(
    run: Run, socket: Sockets, ana: User, ben: User, lobby: Room
) -> None:
    sender, reader, guest = socket(LOBBY, ana), socket(LOBBY, ben), socket(LOBBY)
    command = new_message("hello <b>all</b>")

    async def scenario() -> list[dict[str, Any]]:
        for client in (sender, reader, guest):
            await client.open()
        await sender.send_json_to(command)
        frames = [await client.frame("message") for client in (reader, guest)]
        accepted = await sender.frame("accepted")
        for client in (sender, reader, guest):
            await client.disconnect()
        return [accepted, *frames]

    accepted, *frames = run(scenario)
    assert accepted["nonce"] == command["nonce"]
    for frame in frames:
        assert frame["message"]["id"] == accepted["id"]
        assert frame["message"]["version"] == 1
        assert "hello &lt;b&gt;all&lt;/b&gt;" in frame["message"]["html"]


def test_message_sent_again_after_a_lost_connection_is_not_doubled(
    run: Run, socket: Sockets, ana: User, lobby: Room
) -> None:
    first, second = socket(LOBBY, ana), socket(LOBBY, ana)
    command = new_message("once")

    async def scenario() -> tuple[Any, Any]:
        await first.open()
        await first.send_json_to(command)
        before = await first.frame("accepted")
        await first.disconnect()
        await second.open()
        await second.send_json_to(command)
        after = await second.frame("accepted")
        await second.disconnect()
        return before, after

    before, after = run(scenario)
    assert before == after
    assert Message.objects.count() == 1


def test_client_resumes_from_the_last_version_it_saw(
    run: Run, socket: Sockets, ana: User, ben: User, lobby: Room
) -> None:
    first = messages.post(ana, lobby, "seen")
    reader = socket(LOBBY, ben)
    missed = messages.post(ana, lobby, "missed")
    messages.edit(ana, first, "seen, then edited")

    async def scenario() -> tuple[Any, Any]:
        await reader.open()
        welcome = await reader.frame("welcome")
        await reader.send_json_to({"type": "resume", "version": 1})
        changes = await reader.frame("changes")
        await reader.disconnect()
        return welcome, changes

    welcome, changes = run(scenario)
    assert welcome["version"] == 3
    assert [message["id"] for message in changes["messages"]] == [missed.pk, first.pk]
    assert (changes["version"], changes["reset"]) == (3, False)


def test_guest_may_not_write(run: Run, socket: Sockets, lobby: Room) -> None:
    guest = socket(LOBBY)

    async def scenario() -> list[Any]:
        await guest.open()
        errors = []
        for command in (new_message("hi"), {"type": "delete", "id": 1}):
            await guest.send_json_to(command)
            errors.append(await guest.frame("error"))
        await guest.disconnect()
        return errors

    assert [error["code"] for error in run(scenario)] == ["forbidden", "forbidden"]
    assert not Message.objects.exists()


def test_refusal_names_the_message_that_it_is_about(
    run: Run, socket: Sockets, ana: User, lobby: Room
) -> None:
    client = socket(LOBBY, ana)
    command = new_message("   ")

    async def scenario() -> Any:
        await client.open()
        await client.send_json_to(command)
        error = await client.frame("error")
        await client.disconnect()
        return error

    error = run(scenario)
    assert (error["code"], error["nonce"]) == ("invalid", command["nonce"])


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "no nonce"},
        {"nonce": "not-a-uuid", "text": "x"},
        {"nonce": str(uuid.uuid4()), "text": ["x"]},
        {"nonce": str(uuid.uuid4()), "text": "half a pair \ud800"},
        {"nonce": str(uuid.uuid4()), "text": "nul \x00"},
        {"nonce": str(uuid.uuid4()), "text": "x" * 4001},
        {"nonce": str(uuid.uuid4()), "text": "x", "attachments": "all"},
        {"nonce": str(uuid.uuid4()), "text": "x", "attachments": [17]},
        {"nonce": str(uuid.uuid4()), "text": "", "attachments": [str(uuid.uuid4())]},
    ],
    ids=[
        "no nonce",
        "bad nonce",
        "list as text",
        "surrogate",
        "nul",
        "too long",
        "attachments no list",
        "attachment no id",
        "attachment unknown",
    ],
)
def test_malformed_message_is_refused(
    run: Run, socket: Sockets, ana: User, lobby: Room, fields: dict[str, Any]
) -> None:
    client = socket(LOBBY, ana)

    async def scenario() -> Any:
        await client.open()
        await client.send_json_to({"type": "send", **fields})
        error = await client.frame("error")
        await client.disconnect()
        return error

    assert run(scenario)["code"] == "invalid"
    assert not Message.objects.exists()


def test_message_of_another_room_is_out_of_reach(
    run: Run, socket: Sockets, ana: User, lobby: Room, vault: Room
) -> None:
    elsewhere = messages.post(ana, vault, "in the vault")
    client = socket(LOBBY, ana)

    async def scenario() -> Any:
        await client.open()
        await client.send_json_to({"type": "delete", "id": elsewhere.pk})
        error = await client.frame("error")
        await client.disconnect()
        return error

    assert "no such message" in run(scenario)["detail"]


def test_edit_and_deletion_reach_the_readers(
    run: Run, socket: Sockets, ana: User, lobby: Room
) -> None:
    message = messages.post(ana, lobby, "frist")
    author, guest = socket(LOBBY, ana), socket(LOBBY)

    async def scenario() -> tuple[Any, Any]:
        await author.open()
        await guest.open()
        edit = {"type": "edit", "id": message.pk, "text": "first"}
        await author.send_json_to(edit)
        edited = await guest.frame("message")
        await author.send_json_to({"type": "delete", "id": message.pk})
        deleted = await guest.frame("message")
        await author.disconnect()
        await guest.disconnect()
        return edited, deleted

    edited, deleted = run(scenario)
    assert "first" in edited["message"]["html"]
    assert "edited" in edited["message"]["html"]
    assert "first" not in deleted["message"]["html"]
    assert deleted["message"]["version"] == 3


def test_presence_follows_who_comes_and_goes(
    run: Run, socket: Sockets, ana: User, ben: User, lobby: Room
) -> None:
    first, second, guest = socket(LOBBY, ana), socket(LOBBY, ben), socket(LOBBY)

    async def scenario() -> list[Any]:
        seen = []
        await first.open()
        await first.frame("presence")
        await second.open()
        seen.append(await first.frame("presence"))
        await guest.open()
        seen.append(await first.frame("presence"))
        await second.disconnect()
        seen.append(await first.frame("presence"))
        await guest.disconnect()
        await first.disconnect()
        return seen

    names = [
        ([person["name"] for person in frame["people"]], frame["guests"])
        for frame in run(scenario)
    ]
    assert names == [(["ana", "ben"], 0), (["ana", "ben"], 1), (["ana"], 1)]
    assert not Connection.objects.exists()


def test_typing_is_shown_to_others_and_throttled(
    run: Run,
    socket: Sockets,
    ana: User,
    lobby: Room,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # All of it is typed at the same moment, however slow the machine is.
    standing = partial(TokenBucket, clock=lambda: 0.0)
    monkeypatch.setattr(consumers, "TokenBucket", standing)
    typist, guest = socket(LOBBY, ana), socket(LOBBY)

    async def scenario() -> list[str]:
        await typist.open()
        await guest.open()
        for _ in range(5):
            await typist.send_json_to({"type": "typing"})
        await typist.send_json_to(new_message("done"))
        types = []
        while "message" not in types:
            types.append((await guest.receive_json_from(timeout=60))["type"])
        await typist.disconnect()
        await guest.disconnect()
        return types

    assert run(scenario).count("typing") == 2


def test_changes_of_messages_have_a_rate_limit(
    run: Run,
    socket: Sockets,
    ana: User,
    lobby: Room,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    standing = partial(TokenBucket, clock=lambda: 0.0)
    monkeypatch.setattr(consumers, "TokenBucket", standing)
    message = messages.post(ana, lobby, "as it was")
    client = socket(LOBBY, ana)

    async def scenario() -> list[str]:
        await client.open()
        for number in range(1, 11):
            edit = {"type": "edit", "id": message.pk, "text": f"edit {number}"}
            await client.send_json_to(edit)
        codes = []
        for command in ({**edit, "text": "more"}, {"type": "delete", "id": message.pk}):
            await client.send_json_to(command)
            codes.append((await client.frame("error"))["code"])
        await client.disconnect()
        return codes

    assert run(scenario) == ["rate", "rate"]
    message.refresh_from_db()
    assert (message.text, message.deleted_at) == ("edit 10", None)


def test_member_who_is_removed_is_disconnected_and_stays_out(
    run: Run, socket: Sockets, ana: User, ben: User, vault: Room
) -> None:
    Membership.objects.create(room=vault, user=ben)
    owner, member, again = socket(VAULT, ana), socket(VAULT, ben), socket(VAULT, ben)

    async def scenario() -> tuple[int, bool]:
        await owner.open()
        await member.open()
        await database_sync_to_async(rooms.remove)(ana, vault, ben)
        code = await member.close_code()
        reopened = await again.open()
        await owner.send_json_to({"type": "ping"})
        await owner.frame("pong")
        await owner.disconnect()
        return code, reopened

    assert run(scenario) == (4403, False)


def test_deleting_a_room_ends_its_connections(
    run: Run, socket: Sockets, lobby: Room
) -> None:
    guest = socket(LOBBY)

    async def scenario() -> int:
        await guest.open()
        await database_sync_to_async(lobby.delete)()
        code: int = await guest.close_code()
        return code

    assert run(scenario) == 4403


def test_signing_out_closes_the_sessions_sockets_and_no_others(
    run: Run, socket: Sockets, ana: User, lobby: Room
) -> None:
    browser = Client()
    browser.force_login(ana)
    here, elsewhere = socket(LOBBY, ana), socket(LOBBY, ana)
    here.scope["session"] = browser.session

    async def scenario() -> int:
        await here.open()
        await elsewhere.open()
        await database_sync_to_async(browser.post)("/accounts/logout/")
        code: int = await here.close_code()
        await elsewhere.send_json_to({"type": "ping"})
        await elsewhere.frame("pong")
        await elsewhere.disconnect()
        return code

    assert run(scenario) == 4401


def test_account_that_is_switched_off_loses_its_sockets(
    run: Run, socket: Sockets, ana: User, lobby: Room
) -> None:
    client = socket(LOBBY, ana)

    async def scenario() -> int:
        await client.open()
        ana.is_active = False
        await database_sync_to_async(ana.save)()
        code: int = await client.close_code()
        return code

    assert run(scenario) == 4401


def lose_events() -> None:
    """Take every connection out of its groups: what is sent to them is lost."""
    get_channel_layer(GROUPS_LAYER).groups.clear()


COMMANDS = [
    {"type": "ping"},
    {"type": "resume", "version": 0},
    {"type": "read", "position": 0},
    {"type": "typing"},
    {"type": "send", "nonce": str(uuid.uuid4()), "text": "still here?"},
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command["type"])
@pytest.mark.parametrize(
    ("loss", "code"),
    [
        (lambda user: Membership.objects.filter(user=user).delete(), 4403),
        (lambda user: Session.objects.all().delete(), 4401),
        (lambda user: User.objects.filter(pk=user.pk).update(is_active=False), 4401),
    ],
    ids=["removed", "session", "inactive"],
)
def test_access_that_ended_unheard_ends_with_the_next_command(
    run: Run,
    socket: Sockets,
    ana: User,
    vault: Room,
    command: dict[str, Any],
    loss: Callable[[User], object],
    code: int,
) -> None:
    client = socket(VAULT, ana)

    async def scenario() -> int:
        await client.open()
        await client.frame("presence")
        lose_events()
        await database_sync_to_async(loss)(ana)
        await client.send_json_to(command)
        frame = await client.receive_output()
        assert frame["type"] == "websocket.close"
        return int(frame["code"])

    assert run(scenario) == code
    assert not Message.objects.exists()


ROOM_EVENTS = [
    {"type": "message.changed", "frame": "{}"},
    {"type": "person.typing", "user": 1, "name": "ana"},
    {"type": "presence.changed", "people": [], "guests": 0},
    {"type": "access.changed"},
]


@pytest.mark.parametrize("event", ROOM_EVENTS, ids=lambda event: event["type"])
def test_removed_member_gets_no_event_of_a_private_room(
    run: Run, socket: Sockets, ana: User, vault: Room, event: dict[str, Any]
) -> None:
    client = socket(VAULT, ana)

    async def scenario() -> int:
        await client.open()
        await client.frame("presence")
        layer = get_channel_layer(GROUPS_LAYER)
        members = dict(layer.groups)
        lose_events()
        await database_sync_to_async(Membership.objects.all().delete)()
        layer.groups.update(members)
        # Two of them: what comes after the end is dropped.
        for _ in range(2):
            await layer.group_send(room_group(vault.pk), event)
        frame = await client.receive_output()
        assert frame["type"] == "websocket.close"
        assert await client.receive_nothing()
        return int(frame["code"])

    assert run(scenario) == 4403


@pytest.mark.parametrize("event", ROOM_EVENTS, ids=lambda event: event["type"])
def test_guest_gets_no_event_of_a_room_that_was_made_private(
    run: Run, socket: Sockets, lobby: Room, event: dict[str, Any]
) -> None:
    guest = socket(LOBBY)

    async def scenario() -> int:
        await guest.open()
        await guest.frame("presence")
        # Nothing tells of it: an update() sends no signal.
        await database_sync_to_async(Room.objects.update)(kind=Room.Kind.PRIVATE)
        layer = get_channel_layer(GROUPS_LAYER)
        await layer.group_send(room_group(lobby.pk), event)
        frame = await guest.receive_output()
        assert frame["type"] == "websocket.close"
        return int(frame["code"])

    assert run(scenario) == 4403


def test_making_a_room_private_closes_the_connections_of_those_outside(
    run: Run, socket: Sockets, ana: User, ben: User, lobby: Room
) -> None:
    Membership.objects.create(room=lobby, user=ana)
    member, reader, guest = socket(LOBBY, ana), socket(LOBBY, ben), socket(LOBBY)

    async def scenario() -> list[int]:
        for client in (member, reader, guest):
            await client.open()
        lobby.kind = Room.Kind.PRIVATE
        await database_sync_to_async(lobby.save)()
        codes = [await client.close_code() for client in (reader, guest)]
        await member.send_json_to(new_message("among ourselves"))
        await member.frame("accepted")
        await member.disconnect()
        return codes

    assert run(scenario) == [4403, 4403]


@pytest.mark.parametrize("kind", [Room.Kind.PUBLIC, Room.Kind.PRIVATE])
def test_events_say_whether_the_room_is_public(
    run: Run, socket: Sockets, ana: User, lobby: Room, kind: Room.Kind
) -> None:
    """Then a connection to a public room asks the database for none of them."""
    Membership.objects.create(room=lobby, user=ana)
    typist = socket(LOBBY, ana)

    async def scenario() -> list[dict[str, Any]]:
        await typist.open()
        await typist.frame("presence")
        layer = get_channel_layer(GROUPS_LAYER)
        channel = await layer.new_channel()
        await layer.group_add(room_group(lobby.pk), channel)
        # The connection was opened before, and nothing tells it.
        await database_sync_to_async(Room.objects.update)(kind=kind)
        events = []
        for command in ({"type": "typing"}, new_message("hello")):
            await typist.send_json_to(command)
            events.append(await layer.receive(channel))
        await database_sync_to_async(announce_people)(lobby.pk)
        events.append(await layer.receive(channel))
        await typist.disconnect()
        return events

    is_public = kind == Room.Kind.PUBLIC
    assert [(event["type"], event["is_public"]) for event in run(scenario)] == [
        ("person.typing", is_public),
        ("message.changed", is_public),
        ("presence.changed", is_public),
    ]
