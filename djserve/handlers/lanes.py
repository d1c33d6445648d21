"""The surroundings of a request's work on the loop, whatever its lane."""

from __future__ import annotations

from collections.abc import Awaitable

from djserve.handlers.exchange import RequestContext
from djserve.handlers.threads.hops import CURRENT, LeasedHops, enter_lease, leave_lease


async def run_lane(exchange: RequestContext, work: Awaitable[None]) -> None:
    """Run ``work`` where the request's threads are known; let all go afterwards."""
    hops = exchange.hops
    current = CURRENT.set(hops)
    entered = enter_lease(hops.lease) if isinstance(hops, LeasedHops) else None
    try:
        await work
    finally:
        if entered is not None:
            leave_lease(entered)
        CURRENT.reset(current)
        exchange.disconnect.close()
        hops.release()
