"""What waits in sockets and transports, measured on real ones."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from djserve.net.latency import BUFFER_LIMIT, UNSENT_LIMIT, shorten_queues


async def _connect(family: str) -> tuple[asyncio.Transport, socket.socket]:
    if family == "unix":
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
    loop = asyncio.get_running_loop()
    transport, _protocol = await loop.connect_accepted_socket(asyncio.Protocol, ours)
    return transport, theirs


def _shortened(family: str) -> tuple[int, int]:
    """Return the transport's limit and the socket's."""

    async def run() -> tuple[int, int]:
        transport, theirs = await _connect(family)
        shorten_queues(transport)
        sock: Any = transport.get_extra_info("socket")
        unsent = 0
        if family == "tcp":
            unsent = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
        limit = transport.get_write_buffer_limits()[1]
        transport.abort()
        await asyncio.sleep(0)
        theirs.close()
        return limit, unsent

    return asyncio.run(run())


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="unknown here")
def test_socket_and_transport_take_little_ahead() -> None:
    assert _shortened("tcp") == (BUFFER_LIMIT, UNSENT_LIMIT)


def test_unix_socket_has_no_such_option() -> None:
    assert _shortened("unix")[0] == BUFFER_LIMIT


class Foreign:
    """A transport that notes the limits it gets."""

    def __init__(self) -> None:
        self.limits: list[int] = []

    def set_write_buffer_limits(self, high: int) -> None:
        self.limits.append(high)


class Lost(Foreign):
    """The loop's own transport, after its connection was lost."""

    def get_extra_info(self, name: str) -> None:
        return None


@pytest.mark.parametrize("transport", [Lost(), Foreign()], ids=["lost", "foreign"])
def test_transport_without_a_socket_keeps_its_limits(transport: Foreign) -> None:
    shorten_queues(transport)

    assert transport.limits == []
