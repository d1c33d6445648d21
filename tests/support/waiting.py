"""How tests wait for what other threads, the kernel or the loop's next turns bring."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable

PATIENCE = 120
"""Seconds after which what is waited for is taken never to come."""


async def wait_until(condition: Callable[[], object]) -> None:
    """Return once the condition holds, for what has no event to wait for."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is watched are plain values
            await asyncio.sleep(0.001)


async def settle(turns: int = 20) -> None:
    """Let the loop do all that is ready, and what that makes ready in turn."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def settle_with_data(descriptor: int) -> None:
    """Let the loop look at a socket often, once the kernel has data for it."""
    ready, _, _ = select.select([descriptor], [], [], PATIENCE)
    assert ready, "Nothing has come"
    await settle()


def can_connect(port: int) -> bool:
    """Return whether something on this machine accepts connections at a port."""
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except OSError:
        return False
    return True
