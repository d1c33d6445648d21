"""The PROXY header of a ``haproxy:`` endpoint: one verdict with PROXY_PROTOCOL."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from typing import Any

import pytest

from djserve.interfaces import ConnectionInfo
from djserve.net.proxy_protocol import SIGNATURE
from djserve.net.twisted.endpoints import listen_on_endpoint
from djserve.net.twisted.reactor import Reactor
from tests.net.twisted.test_endpoints import Link, Receiver
from tests.support.logs import own_records

pytestmark = pytest.mark.e2e

Run = Callable[..., Any]

TEXT = "haproxy:tcp:0:interface=127.0.0.1"
ADDRESSES = bytes([1, 2, 3, 4, 5, 6, 7, 8]) + struct.pack("!HH", 9, 10)
V2 = SIGNATURE + b"\x21\x11" + struct.pack("!H", len(ADDRESSES)) + ADDRESSES
V2_IPV6 = SIGNATURE + b"\x21\x21" + struct.pack("!H", 36) + bytes(15) + b"\1" * 17
V2_IPV6 += struct.pack("!HH", 9, 10)


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n", ("1.2.3.4", 9)),
        (b"PROXY TCP6 ::1 ::2 9 10\r\n", ("::1", 9)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN \xff\xfe\r\n", None),
        (V2, ("1.2.3.4", 9)),
        (V2_IPV6, ("::1", 9)),
        # LOCAL, a unix socket's addresses, datagrams, a family that is unknown.
        (SIGNATURE + b"\x20\x00\0\0", None),
        (SIGNATURE + b"\x21\x31\0\xd8" + bytes(216), None),
        (SIGNATURE + b"\x21\x12\0\x0c" + ADDRESSES, None),
        (SIGNATURE + b"\x21\x4f\0\x04abcd", None),
    ],
)
def test_header_is_taken_whole_and_byte_by_byte(
    header: bytes, client: tuple[str, int] | None, run_on_reactor: Run
) -> None:
    async def scenario(reactor: Reactor) -> None:
        async with Link(reactor, TEXT, header + b"hello") as link:
            await link.receiver.received.wait()
            assert link.receiver.data == b"hello"
            told = link.receiver.info.client
            assert told is not None
            assert told == client if client else told[0] == "127.0.0.1"
        async with Drip(reactor, header + b"x") as data:
            assert data == b"x"

    run_on_reactor(scenario)


class Drip:
    """What a receiver gets of bytes that come one by one."""

    def __init__(self, reactor: Reactor, data: bytes) -> None:
        self._reactor = reactor
        self._data = data

    async def __aenter__(self) -> bytes:
        opened: asyncio.Queue[Receiver] = asyncio.Queue()

        def open_connection(transport: Any, info: ConnectionInfo) -> Any:
            receiver = Receiver(transport, info)
            opened.put_nowait(receiver)
            return receiver

        address, self._close = await listen_on_endpoint(
            self._reactor, TEXT, open_connection, 60.0, []
        )
        host, port = address.split(":")
        _, self._writer = await asyncio.open_connection(host, int(port))
        for byte in self._data:
            self._writer.write(bytes([byte]))
            await self._writer.drain()
            await asyncio.sleep(0)
        receiver = await opened.get()
        await receiver.received.wait()
        return receiver.data

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        self._close()


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY TCP4 \xff\xff\xff\xff 5.6.7.8 9 10\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 \xb2 10\r\n",
        b"PROXY TCP\xff\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 9 70000\r\n",
        b"PROXY TCP4 ::1 ::2 9 10\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY " + b"\xff" * 200,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x80\x81\x82" * 100,
        SIGNATURE + b"\x2f\x11\0\x0c" + ADDRESSES,
        SIGNATURE + b"\x21\x11\0\x01a",
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_what_is_no_header_is_refused_without_a_traceback(
    data: bytes,
    run_on_reactor: Run,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    async def scenario(reactor: Reactor) -> None:
        opened: list[object] = []

        def open_connection(transport: Any, info: ConnectionInfo) -> Any:
            opened.append(info)

        address, close = await listen_on_endpoint(
            reactor, TEXT, open_connection, 60.0, []
        )
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data + b"more")
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            # What was not read is gone with the connection.
            pass
        writer.close()
        close()
        assert opened == []

    run_on_reactor(scenario)

    assert "Traceback" not in caplog.text
    records = own_records(caplog)
    assert [record.levelname for record in records] == ["INFO"]
    assert "Refused a connection without a PROXY header" in caplog.text
