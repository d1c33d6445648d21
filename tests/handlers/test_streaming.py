"""Streams at the pace of the client, part by part, closed in every case."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import StreamingHttpResponse

from djserve.handlers.streaming import WINDOW, send_async_stream, send_sync_stream
from djserve.handlers.threads.hops import LeasedHops
from djserve.handlers.threads.leases import Lease
from djserve.handlers.threads.mailbox import Mailbox
from djserve.handlers.threads.pool import ThreadPool

CHUNK = 1000

Send = Callable[[Any], Coroutine[Any, Any, None]]


def collect(sent: list[bytes]) -> Send:
    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    return send


def stream(parts: Iterator[bytes], send: Send) -> None:
    """Stream a synchronous iterator from a thread."""
    pool = ThreadPool(1)

    async def main() -> None:
        mailbox = Mailbox(asyncio.get_running_loop())
        hops = LeasedHops(Lease(pool, held=True), mailbox)
        response = StreamingHttpResponse(parts)
        async with asyncio.timeout(60):
            try:
                await send_sync_stream(send, response, CHUNK, hops, mailbox)
            finally:
                hops.release()

    try:
        asyncio.run(main())
    finally:
        assert pool.close(60)


def test_parts_arrive_in_order_and_end_with_an_empty_message() -> None:
    sent: list[bytes] = []
    stream((b"%d" % n for n in range(100)), collect(sent))

    assert sent == [*(b"%d" % n for n in range(100)), b""]


def test_large_part_is_sent_in_chunks() -> None:
    sent: list[bytes] = []
    stream(iter([b"x" * 2500]), collect(sent))

    assert [len(chunk) for chunk in sent] == [1000, 1000, 500, 0]


def test_part_is_sent_before_the_next_one_is_there() -> None:
    seen = threading.Event()
    sent: list[bytes] = []

    def parts() -> Iterator[bytes]:
        yield b"first"
        assert seen.wait(60)
        yield b"second"

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))
        seen.set()

    stream(parts(), send)
    assert sent == [b"first", b"second", b""]


def test_iterator_runs_in_one_thread_only() -> None:
    idents: set[int] = set()

    def parts() -> Iterator[bytes]:
        for _ in range(20):
            idents.add(threading.get_ident())
            yield b"x" * WINDOW

    stream(parts(), collect([]))
    assert len(idents) == 1
    assert threading.get_ident() not in idents


def test_iterator_is_ahead_of_a_slow_client_by_a_window_at_most() -> None:
    part = b"x" * (WINDOW // 8)
    drawn, sent, ahead = 0, 0, 0

    def parts() -> Iterator[bytes]:
        nonlocal drawn
        for _ in range(100):
            drawn += len(part)
            yield part

    async def send(message: Any) -> None:
        nonlocal sent, ahead
        await asyncio.sleep(0)
        ahead = max(ahead, drawn - sent)
        sent += len(message.get("body", b""))

    stream(parts(), send)
    assert sent == drawn == 100 * len(part)
    assert ahead <= WINDOW + 2 * len(part)


def test_error_of_the_iterator_comes_after_its_parts() -> None:
    sent: list[bytes] = []

    def parts() -> Iterator[bytes]:
        yield b"first"
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        stream(parts(), collect(sent))
    assert sent == [b"first"]


def test_client_that_cannot_be_sent_to_stops_the_iterator() -> None:
    drawn: list[int] = []

    def parts() -> Iterator[bytes]:
        for number in range(1000):
            drawn.append(number)
            yield b"x" * WINDOW

    async def send(message: Any) -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        stream(parts(), send)
    assert len(drawn) <= 2


def test_asynchronous_iterator_runs_on_the_loop() -> None:
    sent: list[bytes] = []
    idents: set[int] = set()

    async def parts() -> AsyncIterator[bytes]:
        for number in range(3):
            idents.add(threading.get_ident())
            yield b"%d" % number

    response = StreamingHttpResponse(parts())
    asyncio.run(send_async_stream(collect(sent), response, CHUNK))

    assert sent == [b"0", b"1", b"2", b""]
    assert idents == {threading.get_ident()}


def test_asynchronous_iterator_is_closed_before_the_error_goes_on() -> None:
    closed: list[bool] = []

    async def parts() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"tick"
        finally:
            closed.append(True)

    async def send(message: Any) -> None:
        raise OSError("gone")

    async def main() -> list[bool]:
        with pytest.raises(OSError, match="gone"):
            await send_async_stream(send, StreamingHttpResponse(parts()), CHUNK)
        return list(closed)

    assert asyncio.run(main()) == [True]


def test_iterator_that_waits_for_a_coroutine_is_interrupted() -> None:
    ended: list[str] = []
    waits = threading.Event()

    async def wait_for_ever() -> None:
        waits.set()
        await asyncio.sleep(36_000)

    def parts() -> Iterator[bytes]:
        try:
            yield b"first"
            # The second wait begins after the first has been cancelled.
            with pytest.raises(asyncio.CancelledError):
                async_to_sync(wait_for_ever)()
            async_to_sync(wait_for_ever)()
        finally:
            ended.append("iterator")

    async def send(message: Any) -> None:
        # An iterator that has not been asked for more would not be entered again.
        await asyncio.to_thread(waits.wait, 60)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        stream(parts(), send)
    assert ended == ["iterator"]
