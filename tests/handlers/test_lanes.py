"""What a lane finds around it, and what is let go at its end."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from djserve.handlers.lanes import run_lane
from djserve.handlers.runtime import make_lease, make_pool
from djserve.handlers.threads.hops import (
    CURRENT,
    InheritedHops,
    LeasedHops,
    current_lease,
    run_in_thread,
)
from djserve.handlers.threads.mailbox import Mailbox


class Exchange:
    """The parts of an exchange that a lane's surroundings are made of."""

    def __init__(self, hops: Any) -> None:
        self.hops = hops
        self.disconnect = self
        self.ends: list[str] = []

    def close(self) -> None:
        self.ends.append("no longer listens")


def test_threads_of_the_request_are_known_in_it_and_let_go_after_it() -> None:
    pool = make_pool(2)
    names: list[str] = []

    async def serve(exchange: Any) -> None:
        hops: Any = CURRENT.get()
        assert hops is exchange.hops
        assert current_lease() is exchange.hops.lease
        names.append(await run_in_thread(lambda: threading.current_thread().name))
        names.append(await sync_to_async(lambda: threading.current_thread().name)())
        assert pool.stats().parked == 1

    async def run() -> None:
        lease = make_lease(pool, held=True)
        exchange: Any = Exchange(LeasedHops(lease, Mailbox(asyncio.get_running_loop())))
        await run_lane(exchange, serve(exchange))
        assert exchange.ends == ["no longer listens"]
        assert current_lease() is None
        assert CURRENT.get(None) is None
        assert pool.stats().parked == 0

    asyncio.run(run())
    assert pool.close(60)
    assert len(names) == 2
    assert len(set(names)) == 1


def test_fault_goes_on_after_all_is_let_go() -> None:
    exchange: Any = Exchange(InheritedHops())

    async def serve(exchange: Any) -> None:
        raise ValueError("the lane failed")

    async def run() -> None:
        with pytest.raises(ValueError, match="the lane failed"):
            await run_lane(exchange, serve(exchange))
        assert CURRENT.get(None) is None

    asyncio.run(run())
    assert exchange.ends == ["no longer listens"]
