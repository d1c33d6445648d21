"""The surroundings of a request's work on the loop, whatever its lane."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from djserve.handlers.exchange import Exchange
from djserve.handlers.hops import CURRENT, LeasedHops, enter_lease, leave_lease

if TYPE_CHECKING:
    from djserve.handlers.handler import ASGIHandler


async def run_lane(
    serve: Callable[[ASGIHandler, Exchange], Awaitable[None]],
    handler: ASGIHandler,
    exchange: Exchange,
) -> None:
    """Call ``serve`` where the request's threads are known; let all go afterwards."""
    hops = exchange.hops
    current = CURRENT.set(hops)
    entered = enter_lease(hops.lease) if isinstance(hops, LeasedHops) else None
    try:
        await serve(handler, exchange)
    finally:
        if entered is not None:
            leave_lease(entered)
        CURRENT.reset(current)
        exchange.disconnect.close()
        hops.release()
