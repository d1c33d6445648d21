from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from djserve.net.reactor import new_event_loop
from djserve.net.unread import has_input
from djserve.testing.transport import MemoryTransport


class Pair:
    """A connection on a loop that does not turn, and its peer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        ours, self.peer = socket.socketpair()
        self.transport: Any = loop.run_until_complete(
            loop.connect_accepted_socket(asyncio.Protocol, ours)
        )[0]


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    loop = new_event_loop(prefer_uvloop=request.param)
    pair = Pair(loop)
    yield pair
    pair.peer.close()
    pair.transport.abort()
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()


def test_silent_peer_has_sent_nothing(pair: Pair) -> None:
    assert not has_input(pair.transport)


def test_bytes_are_seen_before_the_loop_reads_them(pair: Pair) -> None:
    pair.peer.sendall(b"a")

    assert has_input(pair.transport)


def test_end_of_the_peer_is_seen(pair: Pair) -> None:
    pair.peer.shutdown(socket.SHUT_WR)

    assert has_input(pair.transport)


def test_other_transports_tell_nothing() -> None:
    assert not has_input(MemoryTransport())
