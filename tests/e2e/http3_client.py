"""An HTTP/3 client on aioquic, which knows nothing of djserve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import (
    ConnectionTerminated,
    QuicEvent,
    StopSendingReceived,
    StreamReset,
)

# A busy machine transfers half a megabyte a second.
PATIENCE = 300.0


class Response:
    """What has come on one stream."""

    def __init__(self) -> None:
        self.heads: list[list[tuple[bytes, bytes]]] = []
        self.content = bytearray()
        self.is_complete = False
        self.reset: int | None = None
        self.stopped: int | None = None

    @property
    def head(self) -> dict[bytes, bytes]:
        """The final head: the first that is not an interim response's."""
        return next(
            dict(head) for head in self.heads if dict(head)[b":status"][:1] != b"1"
        )

    @property
    def status(self) -> int:
        return int(self.head[b":status"])

    @property
    def has_ended(self) -> bool:
        return self.is_complete or self.reset is not None


class Client(QuicConnectionProtocol):
    """A connection, with all that has come on it."""

    has_sessions = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.h3 = H3Connection(self._quic, enable_webtransport=self.has_sessions)
        self.responses: dict[int, Response] = {}
        self.terminated: ConnectionTerminated | None = None
        self.waiters: list[asyncio.Future[None]] = []

    def quic_event_received(self, event: QuicEvent) -> None:
        stream_id = getattr(event, "stream_id", None)
        response = self.responses.get(stream_id) if stream_id is not None else None
        if isinstance(event, ConnectionTerminated):
            self.terminated = event
        elif isinstance(event, StreamReset) and response is not None:
            response.reset = event.error_code
        elif isinstance(event, StopSendingReceived) and response is not None:
            response.stopped = event.error_code
        for h3_event in self.h3.handle_event(event):
            self.take(h3_event)
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def take(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived | DataReceived):
            response = self.responses[event.stream_id]
            if isinstance(event, HeadersReceived):
                response.heads.append(event.headers)
            else:
                response.content += event.data
            response.is_complete |= event.stream_ended

    def request(
        self,
        path: str,
        *,
        method: str = "GET",
        fields: Iterable[tuple[bytes, bytes]] = (),
        content: bytes | None = None,
        end: bool = True,
        authority: bytes = b"localhost",
    ) -> int:
        """Send a request; return its stream."""
        stream_id = self._quic.get_next_available_stream_id()
        self.responses[stream_id] = Response()
        head = [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", authority),
            (b":path", path.encode()),
            *fields,
        ]
        self.h3.send_headers(stream_id, head, end_stream=end and content is None)
        if content is not None:
            self.h3.send_data(stream_id, content, end_stream=end)
        self.transmit()
        return stream_id

    def send(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        self.h3.send_data(stream_id, data, end_stream=end)
        self.transmit()

    def send_raw(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        """Send bytes of a stream as they are."""
        self.responses.setdefault(stream_id, Response())
        self._quic.send_stream_data(stream_id, data, end)
        self.transmit()

    async def wait_until(self, condition: Any) -> None:
        """Wait until a condition is true."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                waiter = asyncio.get_running_loop().create_future()
                self.waiters.append(waiter)
                # What is acknowledged is no event: look now and then.
                await asyncio.wait([waiter], timeout=0.05)

    async def answer(self, stream_id: int) -> Response:
        """Wait for the end of a response."""
        response = self.responses[stream_id]
        await self.wait_until(lambda: response.has_ended or self.terminated)
        return response

    async def fetch(self, path: str, **request: Any) -> Response:
        return await self.answer(self.request(path, **request))

    async def wait_closed(self) -> None:
        """Do not: it takes a multiple of the round trip, which load makes long."""

    async def closed(self) -> ConnectionTerminated:
        await self.wait_until(lambda: self.terminated)
        assert self.terminated is not None
        return self.terminated


@asynccontextmanager
async def open_client(
    port: int,
    ca: Path,
    kind: type[Client] = Client,
    *,
    host: str = "127.0.0.1",
    **options: Any,
) -> AsyncIterator[Client]:
    """Connect to a server on this machine."""
    configuration = QuicConfiguration(
        alpn_protocols=["h3"], **{"server_name": "localhost", **options}
    )
    configuration.load_verify_locations(str(ca))
    async with (
        asyncio.timeout(PATIENCE),
        connect(
            host,
            port,
            configuration=configuration,
            create_protocol=kind,
            local_port=0,
        ) as client,
    ):
        assert isinstance(client, Client)
        yield client
