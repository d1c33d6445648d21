from __future__ import annotations

import asyncio
from typing import Any

import pytest

from demo_project.realtime import layers
from demo_project.realtime.layers import MemoryChannelLayer


async def fill(layer: MemoryChannelLayer, *channels: str) -> None:
    for channel in channels:
        await layer.group_add("room.1", channel)
    for number in range(layer.capacity):
        await layer.group_send("room.1", {"type": "said", "number": number})


def test_group_gets_messages_in_order_as_copies_of_its_own() -> None:
    async def scenario() -> None:
        layer, message = MemoryChannelLayer(), {"type": "said", "words": ["hello"]}
        for channel in ("a", "b"):
            await layer.group_add("room.1", channel)
        await layer.group_send("room.1", message)
        await layer.group_send("room.1", {"type": "said", "words": ["again"]})
        first = await layer.receive("a")
        first["words"].append("changed")

        assert (await layer.receive("a"))["words"] == ["again"]
        assert await layer.receive("b") == message

    asyncio.run(scenario())


def test_full_channel_does_not_keep_the_others_from_hearing() -> None:
    async def scenario() -> None:
        layer = MemoryChannelLayer(capacity=2)
        await fill(layer, "full")
        await layer.group_add("room.1", "fresh")
        await layer.group_send("room.1", {"type": "said", "number": 9})

        assert (await layer.receive("fresh"))["number"] == 9
        assert [(await layer.receive("full"))["number"] for _ in range(2)] == [0, 1]

    asyncio.run(scenario())


def test_expired_messages_go_once_the_layer_looks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> dict[str, Any]:
        layer = MemoryChannelLayer(expiry=0)
        await layer.send("a", {"type": "said"})
        monkeypatch.setattr(layers, "CLEAN_SECONDS", 0.0)
        await layer.group_send("nobody", {"type": "said"})
        return dict(layer.channels)

    assert asyncio.run(scenario()) == {}


def test_layer_does_not_look_through_everything_each_time() -> None:
    async def scenario() -> int:
        layer = MemoryChannelLayer(expiry=0)
        await layer.group_send("nobody", {"type": "said"})
        await layer.send("a", {"type": "said"})
        await layer.group_send("nobody", {"type": "said"})
        return len(layer.channels)

    assert asyncio.run(scenario()) == 1
