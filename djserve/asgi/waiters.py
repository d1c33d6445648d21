"""Waiting for one fact by any number of tasks; cheaper than an Event for each request.

A waiter may be cancelled in between, and who was woken looks for the fact by itself.
"""

from __future__ import annotations

import asyncio


async def wait(waiters: list[asyncio.Future[None]]) -> None:
    """Wait until ``wake`` is called for ``waiters``."""
    waiter = asyncio.get_running_loop().create_future()
    waiters.append(waiter)
    await waiter


def wake(waiters: list[asyncio.Future[None]]) -> None:
    """Wake the tasks that wait now."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()
