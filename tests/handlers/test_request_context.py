"""One request in its lane: threads, streams, and a client that goes away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from io import BytesIO
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse

from djserve.asgi.application import ApplicationCalls
from djserve.asgi.http import HTTPExchange
from djserve.asgi.scope import ScopeBuilder
from djserve.asgi.websocket import WebSocketExchange
from djserve.conf.schema import ServerConfig
from djserve.errors import ClientDisconnected
from djserve.handlers.request_context import (
    Disconnect,
    GuardedSend,
    RequestContext,
    guard,
    own_exchange,
    run_lane,
)
from djserve.handlers.runtime import make_lease, make_pool
from djserve.handlers.threads.asgiref_compat import current_lease
from djserve.handlers.threads.hops import (
    CURRENT,
    InheritedHops,
    LeasedHops,
    run_in_thread,
)
from djserve.handlers.threads.leases import Lease
from djserve.handlers.threads.mailbox import Mailbox
from djserve.handlers.threads.pool import ThreadPool
from djserve.interfaces import ConnectionInfo
from djserve.server.factory import ConnectionFactory
from djserve.testing.transport import MemoryTransport
from tests.support.waiting import settle, wait_until

FILE = {"type": "http.response.pathsend", "path": "/some/file"}


async def parts() -> AsyncIterator[bytes]:
    yield b"part"


def stream(
    file_message: Any = None, *, use_thread: bool = True, in_use: bool = False
) -> tuple[Any, int]:
    """Stream, and return what was sent and how many threads were parked meanwhile."""
    pool = ThreadPool(1)
    sent: list[Any] = []
    parked: list[int] = []

    async def send(message: Any) -> None:
        sent.append(message)
        await wait_until(lambda: not pool.stats().running)
        parked.append(pool.stats().parked)

    async def never() -> Any:
        await asyncio.sleep(300)

    async def main() -> None:
        mailbox = Mailbox(asyncio.get_running_loop())
        hops = LeasedHops(Lease(pool, held=True, must_keep=lambda: in_use), mailbox)
        if use_thread:
            await hops.run(int)
        context = RequestContext(
            {}, send, BytesIO(), None, hops, mailbox, Disconnect(never), 100
        )
        await context.stream(StreamingHttpResponse(parts()), file_message)
        hops.release()

    asyncio.run(main())
    assert pool.close(60)
    return sent, parked[-1]


@pytest.mark.parametrize(("in_use", "parked"), [(True, 1), (False, 0)])
def test_thread_is_kept_while_it_must_be(in_use: bool, parked: int) -> None:
    assert stream(in_use=in_use)[1] == parked


def test_stream_without_a_thread_takes_none() -> None:
    sent, parked = stream(use_thread=False, in_use=True)

    assert parked == 0
    assert [message.get("body") for message in sent] == [None, b"part", None]


def test_file_takes_the_place_of_the_content() -> None:
    sent, _ = stream(FILE)

    assert [message["type"] for message in sent] == [
        "http.response.start",
        FILE["type"],
    ]


class Surroundings:
    """The parts of a context that a lane's surroundings are made of."""

    def __init__(self, hops: Any) -> None:
        self.hops = hops
        self.disconnect = self
        self.ends: list[str] = []

    def close(self) -> None:
        self.ends.append("no longer listens")


def test_threads_of_the_request_are_known_in_it_and_let_go_after_it() -> None:
    pool = make_pool(2)
    names: list[str] = []

    async def serve(context: Any) -> None:
        hops: Any = CURRENT.get()
        assert hops is context.hops
        assert current_lease() is context.hops.lease
        names.append(await run_in_thread(lambda: threading.current_thread().name))
        names.append(await sync_to_async(lambda: threading.current_thread().name)())
        assert pool.stats().parked == 1

    async def run() -> None:
        lease = make_lease(pool, held=True)
        context: Any = Surroundings(
            LeasedHops(lease, Mailbox(asyncio.get_running_loop()))
        )
        await run_lane(context, serve(context))
        assert context.ends == ["no longer listens"]
        assert current_lease() is None
        assert CURRENT.get(None) is None
        assert pool.stats().parked == 0

    asyncio.run(run())
    assert pool.close(60)
    assert len(names) == 2
    assert len(set(names)) == 1


def test_fault_goes_on_after_all_is_let_go() -> None:
    context: Any = Surroundings(InheritedHops())

    async def serve(context: Any) -> None:
        raise ValueError("the lane failed")

    async def run() -> None:
        with pytest.raises(ValueError, match="the lane failed"):
            await run_lane(context, serve(context))
        assert CURRENT.get(None) is None

    asyncio.run(run())
    assert context.ends == ["no longer listens"]


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


def test_error_of_send_is_a_lost_client() -> None:
    async def send(message: Any) -> None:
        raise BrokenPipeError

    with pytest.raises(ClientDisconnected):
        asyncio.run(GuardedSend(send)({"type": "http.response.body"}))


def test_only_the_exchange_itself_is_known_as_our_own() -> None:
    known: list[object] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        async def through_middleware() -> Any:
            return await receive()

        exchange = own_exchange(receive, HTTPExchange)
        known.append(type(exchange))
        known.append(own_exchange(send, HTTPExchange) is exchange)
        known.append(guard(send) is send)
        known.append(own_exchange(receive, WebSocketExchange))
        known.append(own_exchange(through_middleware, HTTPExchange))
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async def main() -> None:
        calls = ApplicationCalls(application, asyncio.get_running_loop(), 10.0)
        factory = ConnectionFactory(ServerConfig(), calls, ScopeBuilder())
        info = ConnectionInfo(("192.0.2.1", 50000), ("192.0.2.2", 80))
        transport = MemoryTransport()
        transport.set_protocol(factory.open_connection(transport, info))
        transport.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await calls.wait(60)

    asyncio.run(main())

    assert known == [HTTPExchange, True, True, None, None]
