"""Streams keep their thread while it is in the middle of something, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import pytest
from django.http import StreamingHttpResponse

from djserve.handlers.disconnect import Disconnect
from djserve.handlers.exchange import RequestContext
from djserve.handlers.threads.hops import LeasedHops
from djserve.handlers.threads.leases import Lease
from djserve.handlers.threads.mailbox import Mailbox
from djserve.handlers.threads.pool import ThreadPool
from tests.support.waiting import wait_until

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
        exchange = RequestContext(
            {}, send, BytesIO(), None, hops, mailbox, Disconnect(never), 100
        )
        await exchange.stream(StreamingHttpResponse(parts()), file_message)
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
