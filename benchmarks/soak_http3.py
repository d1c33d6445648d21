"""HTTP/3 clients of the soak: requests at a pace, and connections that are left."""

from __future__ import annotations

import asyncio
import random
import ssl
from typing import Any, cast

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamReset

from benchmarks.soak_http2 import PATHS
from benchmarks.soak_tally import TIMEOUT, Tally, Target

PROTOCOL = "HTTP/3"
WEBSOCKET = (
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":path", b"/"),
    (b"sec-websocket-version", b"13"),
)

REQUESTS_OF_A_CONNECTION = 100
"""aioquic's client keeps a little of each stream until its connection's end."""


class Connection(QuicConnectionProtocol):
    """One connection, with the responses that are awaited on it."""

    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic)
        self._h3 = H3Connection(quic)
        self._answers: dict[int, asyncio.Future[str]] = {}
        self._statuses: dict[int, str] = {}
        self._is_silent = False
        self.requests = 0
        self.has_ended = False

    def ask(self, path: str) -> asyncio.Future[str]:
        """Send a request; the result is its response's status, once that is complete.

        It ends with an OSError if the stream or the connection was lost.
        """
        return self.send([(b":method", b"GET"), (b":path", path.encode())], is_end=True)

    def send(
        self, fields: list[tuple[bytes, bytes]], *, is_end: bool
    ) -> asyncio.Future[str]:
        """Send a head, and return as ``ask`` does."""
        stream_id = self._quic.get_next_available_stream_id()
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._answers[stream_id] = answer
        self.requests += 1
        fields = [*fields, (b":scheme", b"https"), (b":authority", b"soak")]
        # Pseudo-header fields come first.
        fields.sort(key=lambda field: not field[0].startswith(b":"))
        self._h3.send_headers(stream_id, fields, end_stream=is_end)
        self.transmit()
        return answer

    def fall_silent(self) -> None:
        """Be gone without a word, as a client that has lost its network."""
        self._is_silent = True
        self._fail(ConnectionError("left"))

    # aioquic calls these.

    def transmit(self) -> None:
        if not self._is_silent:
            super().transmit()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            self._fail(
                ConnectionError(f"closed: {event.error_code} {event.reason_phrase}")
            )
        elif isinstance(event, StreamReset):
            reset = ConnectionResetError(f"stream reset: {event.error_code:#x}")
            self._settle(event.stream_id, reset)
        for h3_event in self._h3.handle_event(event):
            self._take(h3_event)

    def _take(self, event: H3Event) -> None:
        if not isinstance(event, HeadersReceived | DataReceived):
            return
        if isinstance(event, HeadersReceived):
            status = dict(event.headers).get(b":status", b"").decode()
            self._statuses[event.stream_id] = status
        if event.stream_ended:
            self._settle(event.stream_id, self._statuses.pop(event.stream_id, ""))

    def _settle(self, stream_id: int, outcome: str | Exception) -> None:
        answer = self._answers.pop(stream_id, None)
        if answer is None or answer.done():
            return
        if isinstance(outcome, str):
            answer.set_result(outcome)
        else:
            answer.set_exception(outcome)

    def _fail(self, error: Exception) -> None:
        self.has_ended = True
        for stream_id in list(self._answers):
            self._settle(stream_id, error)


async def dial(target: Target) -> tuple[asyncio.DatagramTransport, Connection]:
    """Connect; raises an OSError or TimeoutError if that fails."""
    configuration = QuicConfiguration(
        alpn_protocols=["h3"], server_name="localhost", verify_mode=ssl.CERT_NONE
    )
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Connection(QuicConnection(configuration=configuration)),
        local_addr=("127.0.0.1", 0),
    )
    try:
        protocol.connect(("127.0.0.1", target.port))
        async with asyncio.timeout(TIMEOUT):
            await protocol.wait_connected()
    except BaseException:
        protocol.fall_silent()
        transport.abort()
        raise
    return transport, protocol


class HTTP3Client:
    """Some streams at a time, on a connection that is renewed now and then.

    ``pause`` is the longest pause after a response, in seconds.
    """

    def __init__(
        self, target: Target, tally: Tally, streams: int, pause: float
    ) -> None:
        self._target = target
        self._tally = tally
        self._streams = streams
        self._pause = pause
        self._chance = random.Random()

    async def run(self, over: asyncio.Event) -> None:
        """Send requests until ``over`` is set."""
        while not over.is_set():
            try:
                transport, connection = await dial(self._target)
            except (OSError, TimeoutError) as error:
                self._tally.failed(f"{PROTOCOL} handshake", error, 0)
                continue
            port = cast("tuple[Any, ...]", transport.get_extra_info("sockname"))[1]
            try:
                await asyncio.gather(
                    *(
                        self._ask_on(connection, port, over)
                        for _ in range(self._streams)
                    )
                )
            finally:
                connection.close()
                transport.close()
            self._tally.events["HTTP/3 connections"] += 1

    async def _ask_on(
        self, connection: Connection, port: int, over: asyncio.Event
    ) -> None:
        while not (
            over.is_set()
            or connection.has_ended
            or connection.requests >= REQUESTS_OF_A_CONNECTION
        ):
            try:
                async with asyncio.timeout(TIMEOUT):
                    status = await connection.ask(self._chance.choice(PATHS))
            except (OSError, TimeoutError) as error:
                self._tally.failed(PROTOCOL, error, port)
                return
            if status == "200":
                self._tally.answered(PROTOCOL)
            else:
                self._tally.failed(PROTOCOL, ValueError(status), port)
            await asyncio.sleep(self._chance.uniform(0, self._pause))


async def leave_http3_streams(target: Target) -> None:
    """Leave streams and a WebSocket behind: by a close, or without a word."""
    transport, connection = await dial(target)
    try:
        answers = [
            connection.ask(path)
            for path in ("/events/", "/stream/", "/slow/", "/sync/")
        ]
        answers.append(connection.send(list(WEBSOCKET), is_end=False))
        await asyncio.sleep(0.3)
        if random.random() < 0.5:
            connection.close()
        connection.fall_silent()
        await asyncio.gather(*answers, return_exceptions=True)
    finally:
        transport.abort()
