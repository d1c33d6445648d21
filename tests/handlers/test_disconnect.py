"""Listening to the client while something waits, and stopping what works for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from djserve.asgi.application import ApplicationCalls
from djserve.asgi.scope import ScopeBuilder
from djserve.conf.schema import ServerConfig
from djserve.handlers.disconnect import Disconnect
from djserve.interfaces import ConnectionInfo
from djserve.server.factory import ConnectionFactory
from djserve.testing.transport import MemoryTransport
from tests.support.waiting import settle


class Client:
    """Counts how often it is listened to; goes away when told."""

    def __init__(self, message: str = "http.disconnect") -> None:
        self.listened = 0
        self.gone = asyncio.Event()
        self.message = message

    async def receive(self) -> dict[str, Any]:
        self.listened += 1
        await self.gone.wait()
        return {"type": self.message}


def run(
    work: Callable[[Client], Coroutine[Any, Any, None]],
    message: str = "http.disconnect",
) -> tuple[bool, Client]:
    async def main() -> tuple[bool, Client]:
        client = Client(message)
        disconnect = Disconnect(client.receive)
        try:
            async with asyncio.timeout(60):
                return await disconnect.cancels(work(client)), client
        finally:
            disconnect.close()

    return asyncio.run(main())


def test_work_that_does_not_wait_is_not_listened_for() -> None:
    async def work(client: Client) -> None:
        pass

    completed, client = run(work)
    assert completed
    assert client.listened == 0


def test_work_that_waits_is_listened_for_once() -> None:
    async def work(client: Client) -> None:
        for _ in range(3):
            await asyncio.sleep(0.001)

    completed, client = run(work)
    assert completed
    assert client.listened == 1


def test_client_that_goes_away_cancels_the_work() -> None:
    cancelled: list[bool] = []

    async def work(client: Client) -> None:
        client.gone.set()
        try:
            await asyncio.sleep(300)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    completed, _ = run(work)
    assert not completed
    assert cancelled == [True]


def test_work_may_catch_its_cancellation_and_go_on() -> None:
    async def work(client: Client) -> None:
        client.gone.set()
        try:
            await asyncio.sleep(300)
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    completed, _ = run(work)
    assert completed


def test_task_is_not_left_cancelled() -> None:
    async def main() -> int:
        client = Client()
        client.gone.set()
        await Disconnect(client.receive).cancels(asyncio.sleep(300))
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert asyncio.run(main()) == 0


def test_cancellation_from_elsewhere_goes_on() -> None:
    async def main() -> None:
        client = Client()
        disconnect = Disconnect(client.receive)
        task = asyncio.create_task(disconnect.cancels(asyncio.sleep(300)))
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        disconnect.close()

    asyncio.run(main())


def test_exception_of_the_work_goes_on() -> None:
    async def work(client: Client) -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run(work)


def test_another_message_is_an_error() -> None:
    async def work(client: Client) -> None:
        client.gone.set()
        await asyncio.sleep(300)

    with pytest.raises(AssertionError, match=r"Invalid ASGI message .* http.odd"):
        run(work, "http.odd")


def test_exception_of_the_server_goes_on() -> None:
    async def main() -> None:
        async def receive() -> Any:
            raise ConnectionResetError

        await Disconnect(receive).cancels(asyncio.sleep(300))

    with pytest.raises(ConnectionResetError):
        asyncio.run(main())


def test_work_for_a_client_that_has_gone_is_not_begun() -> None:
    begun: list[bool] = []

    async def work() -> None:
        begun.append(True)

    async def main() -> bool:
        disconnect = Disconnect(Client().receive)
        disconnect.happened = True
        return await disconnect.cancels(work())

    assert not asyncio.run(main())
    assert begun == []


def test_what_is_no_task_is_told() -> None:
    async def main() -> list[str]:
        told: list[str] = []
        client = Client()
        disconnect = Disconnect(client.receive)
        disconnect.on_happen = lambda: told.append("gone")
        disconnect.listen()
        client.gone.set()
        await settle()
        return told

    assert asyncio.run(main()) == ["gone"]


async def serve_waiting(
    transport: MemoryTransport, outcome: list[object], is_late: bool = False
) -> None:
    """Serve one request whose work waits until its client has gone."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        disconnect = Disconnect(receive)
        await receive()
        if is_late:
            await receive()
        try:
            outcome.append(await disconnect.cancels(asyncio.sleep(300)))
            outcome.append(len(asyncio.all_tasks()))
        finally:
            disconnect.close()

    loop = asyncio.get_running_loop()
    calls = ApplicationCalls(application, loop, 10.0)
    factory = ConnectionFactory(ServerConfig(), calls, ScopeBuilder())
    info = ConnectionInfo(("192.0.2.1", 50000), ("192.0.2.2", 80))
    transport.set_protocol(factory.open_connection(transport, info))
    transport.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await asyncio.sleep(0)
    transport.lose()
    async with asyncio.timeout(60):
        await calls.wait(60)


def test_server_of_our_own_tells_without_a_task_that_listens() -> None:
    outcome: list[object] = []
    asyncio.run(serve_waiting(MemoryTransport(), outcome))

    # This test's task, and that of the application.
    assert outcome == [False, 2]


def test_client_that_had_gone_before_is_told_of_soon() -> None:
    outcome: list[object] = []
    asyncio.run(serve_waiting(MemoryTransport(), outcome, is_late=True))

    assert outcome == [False, 2]
