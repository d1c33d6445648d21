from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from djserve.interfaces import ConnectionInfo
from djserve.net.twisted.endpoints import EndpointConnection, listen_on_endpoint
from djserve.net.twisted.reactor import Reactor
from tests.support.waiting import settle_with_data

pytestmark = pytest.mark.e2e

Run = Callable[..., Any]

PROXY = "haproxy:tcp:0:interface=127.0.0.1"
HEADER = b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n"


class Receiver:
    def __init__(self, transport: Any, info: ConnectionInfo) -> None:
        self.transport = transport
        self.info = info
        self.data = b""
        self.received = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = (
            asyncio.get_running_loop().create_future()
        )

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.received.set()

    def eof_received(self) -> None:
        """Let the connection close."""

    def pause_writing(self) -> None:
        """Nothing is written here that could fill a buffer."""

    def resume_writing(self) -> None:
        """See ``pause_writing``."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Link:
    """A receiver behind an endpoint, and the streams of its peer."""

    receiver: Receiver

    def __init__(self, reactor: Reactor, text: str, first: bytes = b"") -> None:
        self._reactor = reactor
        self._text = text
        self._first = first

    async def __aenter__(self) -> Link:
        opened: asyncio.Future[Receiver] = asyncio.get_running_loop().create_future()

        def open_connection(transport: Any, info: ConnectionInfo) -> Any:
            opened.set_result(Receiver(transport, info))
            return opened.result()

        address, self._close = await listen_on_endpoint(
            self._reactor, self._text, open_connection, 60.0, ["http/1.1"]
        )
        host, port = address.split(":")
        self.reader, self.writer = await asyncio.open_connection(host, int(port))
        self.writer.write(self._first)
        self.receiver = await opened
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        self._close()


def test_proxy_protocol_tells_the_addresses(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor, PROXY, HEADER + b"hello") as link:
            await link.receiver.received.wait()
            assert link.receiver.data == b"hello"
            assert link.receiver.info.client == ("1.2.3.4", 9)
            assert link.receiver.info.server == ("5.6.7.8", 10)

    run_on_reactor(scenario)


def test_plain_endpoint_has_nothing_between(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor, "tcp:0:interface=127.0.0.1") as link:
            assert not isinstance(link.receiver.transport, EndpointConnection)

    run_on_reactor(scenario)


def test_transport_of_a_wrapped_endpoint_does_what_a_native_one_does(
    run_on_reactor: Run,
) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor, PROXY, HEADER + b"x") as link:
            transport = link.receiver.transport
            assert isinstance(transport, EndpointConnection)
            successor = Receiver(transport, link.receiver.info)
            transport.set_protocol(successor)
            transport.pause_reading()
            link.writer.write(b"held")
            await settle_with_data(transport.transport.fileno())
            assert successor.data == b""
            transport.resume_reading()
            await successor.received.wait()
            assert transport.get_write_buffer_size() == 0
            assert transport.can_write_eof()
            transport.write(b"answer")
            transport.write_eof()
            assert await link.reader.read() == b"answer"
            transport.close()
            assert await successor.lost is None

    run_on_reactor(scenario)


def test_abort_ends_a_wrapped_endpoint_regularly(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor, PROXY, HEADER + b"x") as link:
            link.receiver.transport.abort()
            assert await link.receiver.lost is None

    run_on_reactor(scenario)


def test_silence_before_the_proxy_header_is_cut_off(run_on_reactor: Run) -> None:
    async def scenario(reactor: Reactor) -> None:
        opened: list[object] = []

        def open_connection(transport: Any, info: ConnectionInfo) -> Any:
            opened.append(transport)

        address, close = await listen_on_endpoint(
            reactor, PROXY, open_connection, 0.05, ["http/1.1"]
        )
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert opened == []
        writer.close()
        close()

    run_on_reactor(scenario)
