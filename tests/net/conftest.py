"""Reactors and loops for tests over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from djserve.net.main_loop import new_event_loop
from djserve.net.twisted.reactor import Reactor
from tests.support.waiting import PATIENCE

Scenario = Callable[[Reactor], Awaitable[Any]]


@pytest.fixture(params=["uvloop", "asyncio"])
def run_on_reactor(request: pytest.FixtureRequest) -> Callable[[Scenario], Any]:
    """Give ``run_on_reactor(scenario)``: run a coroutine function under a new reactor.

    The reactor runs as an application's would, and is thrown away after.
    """

    def run(scenario: Scenario) -> Any:
        loop = new_event_loop(prefer_uvloop=request.param == "uvloop")
        reactor = Reactor(loop)
        tasks: list[asyncio.Task[Any]] = []

        async def play() -> Any:
            return await asyncio.wait_for(scenario(reactor), PATIENCE)

        def start() -> None:
            tasks.append(loop.create_task(play()))
            tasks[0].add_done_callback(lambda _: reactor.stop())

        reactor.callWhenRunning(start)
        reactor.run(installSignalHandlers=False)
        reactor.dispose()
        return tasks[0].result()

    return run
