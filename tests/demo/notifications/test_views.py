"""Pages of the notifications, their stream, and the admin's action."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.contrib.auth.models import User
from django.test import AsyncClient, Client

from demo_project.notifications import services, stream

STREAM = "/notifications/stream/"


def signed_in(user: User) -> AsyncClient:
    client = AsyncClient()
    client.force_login(user)
    return client


async def next_chunk(chunks: AsyncIterator[bytes]) -> str:
    return (await anext(chunks)).decode()


def test_stream_sends_what_comes(run: Callable[..., Any], ana: User) -> None:
    services.notify(ana, "before")
    client = signed_in(ana)

    async def scenario() -> list[str]:
        response: Any = await client.get(STREAM)
        assert response["Content-Type"] == "text/event-stream"
        chunks = response.streaming_content
        got = [await next_chunk(chunks)]
        await database_sync_to_async(services.notify)(ana, "live")
        got.append(await next_chunk(chunks))
        await database_sync_to_async(services.mark_read)(ana, 2)
        got.append(await next_chunk(chunks))
        await chunks.aclose()
        return got

    connected, live, read = run(scenario)
    assert connected == ": connected\n\n"
    assert live.startswith("id: 2\nevent: notification\ndata: {")
    assert '"text": "live"' in live
    assert read == 'event: read\ndata: {"unread": 0}\n\n'


def test_stream_resumes_after_the_last_event(
    run: Callable[..., Any], ana: User
) -> None:
    for text in ("seen", "missed", "missed too"):
        services.notify(ana, text)
    client = signed_in(ana)

    async def scenario() -> list[str]:
        response: Any = await client.get(STREAM, headers={"last-event-id": "1"})
        chunks = response.streaming_content
        got = [await next_chunk(chunks) for _ in range(3)]
        await chunks.aclose()
        return got

    assert [chunk.split("\n")[0] for chunk in run(scenario)[1:]] == ["id: 2", "id: 3"]


def test_quiet_stream_is_kept_alive(
    run: Callable[..., Any], ana: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_SECONDS", 0.01)

    async def scenario() -> str:
        chunks = stream.events_for(ana, None, None)
        await anext(chunks)
        return await next_chunk(chunks)

    assert run(scenario) == ": keep-alive\n\n"


def test_stream_ends_with_the_session(run: Callable[..., Any], ana: User) -> None:
    client = signed_in(ana)
    browser = Client()
    browser.cookies = client.cookies

    async def scenario() -> list[bytes]:
        response: Any = await client.get(STREAM)
        chunks = response.streaming_content
        await anext(chunks)
        await database_sync_to_async(browser.post)("/accounts/logout/")
        return [chunk async for chunk in chunks]

    assert run(scenario) == []


def test_guest_gets_no_stream(run: Callable[..., Any]) -> None:
    async def scenario() -> int:
        return (await AsyncClient().get(STREAM)).status_code

    assert run(scenario) == 401


def test_page_marks_as_read(ana: User) -> None:
    services.notify(ana, "<b>note</b>")
    client = Client()
    client.force_login(ana)

    assert b"&lt;b&gt;note" in client.get("/notifications/").content
    client.post("/notifications/read/", {"up_to": 1})
    assert services.unread_count(ana) == 0


def test_page_offers_to_mark_only_what_is_unread(ana: User) -> None:
    services.notify(ana, "Tea is ready")
    client = Client()
    client.force_login(ana)

    assert b"Mark all read" in client.get("/notifications/").content
    services.mark_read(ana, 1)
    assert b"Mark all read" not in client.get("/notifications/").content


def test_admin_action_asks_for_the_text_and_notifies(ana: User, ben: User) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    data: dict[str, Any] = {
        "action": "notify_users",
        "_selected_action": [ana.pk, ben.pk],
    }
    page = client.post("/admin/auth/user/", data)
    client.post("/admin/auth/user/", {**data, "send": "Notify", "text": "Party at six"})

    assert b"To: ana, ben" in page.content
    texts = [services.latest(user)[0].text for user in (ana, ben)]
    assert texts == ["Party at six", "Party at six"]
