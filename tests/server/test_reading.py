"""Connections that wait to be read on: one in a turn, in their order."""

from __future__ import annotations

import asyncio

import pytest

from djserve.server.reading import ReadingQueue
from tests.server.sites import on_loop
from tests.support.waiting import settle


@on_loop
async def test_one_is_read_on_in_each_turn() -> None:
    loop = asyncio.get_running_loop()
    queue = ReadingQueue(loop.call_soon)
    seen: list[str] = []
    for name in ("a", "b", "c"):
        queue.wait(lambda name=name: seen.append(name))  # type: ignore[misc]
    loop.call_soon(seen.append, "other")
    await settle()

    assert seen == ["a", "other", "b", "c"]


@on_loop
async def test_who_waits_again_is_behind_the_others() -> None:
    queue = ReadingQueue(asyncio.get_running_loop().call_soon)
    seen: list[str] = []

    def heavy() -> None:
        seen.append("heavy")
        if len(seen) < 5:
            queue.wait(heavy)

    queue.wait(heavy)
    queue.wait(lambda: seen.append("light"))
    await settle()

    assert seen == ["heavy", "light", "heavy", "heavy", "heavy"]


def test_fault_in_one_leaves_the_others_their_turn() -> None:
    soon: list[object] = []
    queue = ReadingQueue(soon.append)
    seen: list[str] = []

    def fail() -> None:
        raise ValueError("as told")

    queue.wait(fail)
    queue.wait(lambda: seen.append("next"))
    with pytest.raises(ValueError, match="as told"):
        soon.pop(0)()  # type: ignore[operator]
    soon.pop(0)()  # type: ignore[operator]

    assert seen == ["next"]
    assert soon == []
