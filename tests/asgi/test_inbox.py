from __future__ import annotations

import asyncio

import pytest

from djserve.asgi.inbox import Inbox, wait, wake
from djserve.errors import ClientDisconnected

CONNECT = {"type": "websocket.connect"}


class Peer:
    """An inbox and the notes of what it asked of the connection."""

    def __init__(self, count_limit: int = 100, size_limit: int = 1000) -> None:
        self.calls: list[str] = []
        self.inbox = Inbox(
            count_limit,
            size_limit,
            lambda: self.calls.append("pause"),
            lambda: self.calls.append("resume"),
        )

    def take(self, count: int) -> list[object]:
        """Receive what is there already."""

        async def main() -> list[object]:
            return [await self.inbox.receive() for _ in range(count)]

        return asyncio.run(main())


def test_messages_come_in_order_after_connect() -> None:
    peer = Peer()
    peer.inbox.put("a")
    peer.inbox.put(b"b")
    peer.inbox.end(1000, "bye")

    assert peer.take(4) == [
        CONNECT,
        {"type": "websocket.receive", "text": "a"},
        {"type": "websocket.receive", "bytes": b"b"},
        {"type": "websocket.disconnect", "code": 1000, "reason": "bye"},
    ]


def test_nothing_comes_after_disconnect() -> None:
    peer = Peer()
    peer.inbox.end(1000, "")
    peer.take(2)

    with pytest.raises(ClientDisconnected):
        peer.take(1)


def test_receiver_that_waits_is_told_of_the_end() -> None:
    async def main() -> None:
        inbox = Peer().inbox
        await inbox.receive()
        receiving = asyncio.create_task(inbox.receive())
        await asyncio.sleep(0)
        inbox.end(1006, "")
        assert (await receiving)["code"] == 1006

    asyncio.run(main())


def test_message_of_a_cancelled_receiver_goes_to_the_next() -> None:
    async def main() -> None:
        inbox = Peer().inbox
        await inbox.receive()
        first, second = (asyncio.create_task(inbox.receive()) for _ in range(2))
        await asyncio.sleep(0)
        inbox.put("a")
        first.cancel()
        assert (await second)["text"] == "a"

    asyncio.run(main())


def test_count_pauses_once_and_resumes_at_half() -> None:
    peer = Peer(count_limit=4)
    peer.take(1)
    for text in "abcde":
        peer.inbox.put(text)
    assert peer.calls == ["pause"]

    peer.take(2)
    assert peer.calls == ["pause"]
    peer.take(1)

    assert peer.calls == ["pause", "resume"]
    assert len(peer.inbox) == 2


def test_size_pauses_and_resumes_at_half() -> None:
    peer = Peer(size_limit=10)
    peer.take(1)
    peer.inbox.put(bytes(4))
    peer.inbox.put(bytes(6))
    assert peer.calls == ["pause"]
    peer.take(1)
    assert peer.calls == ["pause"]

    peer.take(1)

    assert peer.calls == ["pause", "resume"]


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
