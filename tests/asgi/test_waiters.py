"""Waiting and waking: every waiter once, cancelled ones not at all."""

from __future__ import annotations

import asyncio

from djserve.asgi.waiters import wait, wake


def test_every_waiter_is_woken_once() -> None:
    async def run() -> list[None]:
        waiters: list[asyncio.Future[None]] = []
        tasks = [asyncio.ensure_future(wait(waiters)) for _ in range(3)]
        await asyncio.sleep(0)
        assert len(waiters) == 3
        wake(waiters)
        assert waiters == []
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == [None, None, None]


def test_cancelled_waiter_is_passed_over() -> None:
    async def run() -> tuple[bool, bool]:
        waiters: list[asyncio.Future[None]] = []
        cancelled, other = (asyncio.ensure_future(wait(waiters)) for _ in range(2))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.sleep(0)
        wake(waiters)
        await other
        return cancelled.cancelled(), other.done()

    assert asyncio.run(run()) == (True, True)


def test_waking_nobody_does_nothing() -> None:
    waiters: list[asyncio.Future[None]] = []
    wake(waiters)

    assert waiters == []
