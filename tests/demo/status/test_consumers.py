"""The status page and its WebSocket."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from demo_project.chat.models import Room
from demo_project.chat.services import messages
from demo_project.status import figures


def test_staff_get_figures(
    run: Callable[..., Any],
    socket: Callable[..., Any],
    lobby: Room,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Far longer than it takes to get here on a busy machine.
    monkeypatch.setattr(figures, "WINDOW", timedelta(seconds=1000))
    staff = User.objects.create_superuser("staff")
    messages.post(staff, lobby, "one")
    page, room = socket("/ws/status/", staff), socket("/ws/rooms/lobby/")

    async def scenario() -> tuple[Any, Any]:
        await room.open()
        await page.open()
        welcome = await page.frame("welcome")
        current = await page.frame("figures")
        await page.disconnect()
        await room.disconnect()
        return welcome, current

    welcome, current = run(scenario)
    assert sum(welcome["messages_per_minute"]) == 1
    assert len(welcome["messages_per_minute"]) == figures.HISTORY_MINUTES
    assert (current["connections"], current["people"]) == (2, 1)
    assert current["messages_per_second"] == 0.001
    assert current["layer_ms"] > 0


@pytest.mark.parametrize("name", ["ana", None])
def test_others_get_nothing(
    run: Callable[..., Any], socket: Callable[..., Any], ana: User, name: str | None
) -> None:
    client = Client()
    if name:
        client.force_login(ana)

    assert run(socket("/ws/status/", ana if name else None).open) is False
    assert client.get("/status/").status_code == 302
