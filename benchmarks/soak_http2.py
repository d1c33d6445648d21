"""HTTP/2 clients of the soak, which follow GOAWAY as RFC 9113 section 6.8 has it.

h2 ends a connection at the first GOAWAY that it sees. Frames of that type are therefore
taken out of what it gets: the streams that GOAWAY leaves alone are to be finished.
"""

from __future__ import annotations

import asyncio
import random
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from benchmarks.soak_tally import TIMEOUT, Tally, Target

PROTOCOL = "HTTP/2"
PATHS = ("/sync/", "/async/", "/query/", "/slow/")

_HEAD_SIZE = 9
_GOAWAY = 7


class NotProcessed(Exception):
    """The server has not looked at the request: it may be sent again."""


class Connection(asyncio.Protocol):
    """One connection; ``takes_requests`` until the server says that it ends."""

    def __init__(self) -> None:
        self._h2 = H2Connection(H2Configuration(client_side=True))
        self._received = b""
        self._answers: dict[int, asyncio.Future[str]] = {}
        self._statuses: dict[int, str] = {}
        self.takes_requests = True

    def ask(self, path: str) -> asyncio.Future[str]:
        """Send a request; the result is its response's status, once that is complete.

        It ends with NotProcessed where the server has refused it, and with an OSError
        where the connection was lost.
        """
        stream_id = self._h2.get_next_available_stream_id()
        fields = [(":method", "GET"), (":path", path), (":scheme", "https")]
        fields.append((":authority", "soak"))
        self._h2.send_headers(stream_id, fields, end_stream=True)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._answers[stream_id] = answer
        self._flush()
        return answer

    def close(self) -> None:
        self.takes_requests = False
        self._transport.close()

    # The loop calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._h2.initiate_connection()
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            events = self._h2.receive_data(self._take_frames(data))
        except ProtocolError as error:
            self._fail(ConnectionError(f"protocol error: {error}"))
            self._transport.abort()
            return
        for event in events:
            self._take(event)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionError("closed with streams open"))

    def _take_frames(self, data: bytes) -> bytes:
        """Return the frames that are complete now, GOAWAY apart."""
        self._received += data
        kept = b""
        while len(self._received) >= _HEAD_SIZE:
            end = _HEAD_SIZE + int.from_bytes(self._received[:3])
            if len(self._received) < end:
                break
            frame, self._received = self._received[:end], self._received[end:]
            if frame[3] == _GOAWAY:
                self._end_after(int.from_bytes(frame[9:13]) & 0x7FFFFFFF)
            else:
                kept += frame
        return kept

    def _end_after(self, last: int) -> None:
        """Send nothing new; what is beyond the last stream was not processed."""
        self.takes_requests = False
        for stream_id in [each for each in self._answers if each > last]:
            self._settle(stream_id, NotProcessed())

    def _take(self, event: Event) -> None:
        match event:
            case ResponseReceived(stream_id=int(stream_id), headers=headers):
                found = [value for name, value in headers or [] if name == b":status"]
                self._statuses[stream_id] = found[0].decode()
            case DataReceived(stream_id=int(stream_id)):
                self._h2.acknowledge_received_data(
                    event.flow_controlled_length or 0, stream_id
                )
            case StreamEnded(stream_id=int(stream_id)):
                self._settle(stream_id, self._statuses.pop(stream_id))
            case StreamReset(stream_id=int(stream_id), error_code=code):
                refused = code == ErrorCodes.REFUSED_STREAM
                reset = ConnectionResetError(f"stream reset: {code!r}")
                self._settle(stream_id, NotProcessed() if refused else reset)

    def _settle(self, stream_id: int, outcome: str | Exception) -> None:
        answer = self._answers.pop(stream_id, None)
        if answer is None or answer.done():
            return
        if isinstance(outcome, str):
            answer.set_result(outcome)
        else:
            answer.set_exception(outcome)

    def _fail(self, error: Exception) -> None:
        self.takes_requests = False
        for stream_id in list(self._answers):
            self._settle(stream_id, error)

    def _flush(self) -> None:
        self._transport.write(self._h2.data_to_send())


class HTTP2Client:
    """Some streams at a time, always on the newest connection.

    ``pause`` is the longest pause after a response, in seconds.
    """

    def __init__(
        self, target: Target, tally: Tally, streams: int, pause: float = 0.02
    ) -> None:
        self._target = target
        self._tls = target.tls("h2")
        self._tally = tally
        self._streams = streams
        self._pause = pause
        self._chance = random.Random()
        self._lock = asyncio.Lock()
        self._current: Connection | None = None
        self._port = 0

    async def run(self, over: asyncio.Event) -> None:
        """Send requests until ``over`` is set."""
        await asyncio.gather(*(self._ask_on(over) for _ in range(self._streams)))
        if self._current is not None:
            self._current.close()

    async def _ask_on(self, over: asyncio.Event) -> None:
        while not over.is_set():
            try:
                connection, port = await self._connected()
            except _Unopened as error:
                self._tally.failed(f"{PROTOCOL} handshake", error.reason, error.port)
                continue
            await self._ask(connection, port)
            await asyncio.sleep(self._chance.uniform(0, self._pause))

    async def _ask(self, connection: Connection, port: int) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                status = await connection.ask(self._chance.choice(PATHS))
        except NotProcessed:
            self._tally.events["HTTP/2 requests not processed, sent again"] += 1
        except (OSError, TimeoutError) as error:
            self._tally.failed(PROTOCOL, error, port)
        else:
            if status == "200":
                self._tally.answered(PROTOCOL)
            else:
                self._tally.failed(PROTOCOL, ValueError(status), port)

    async def _connected(self) -> tuple[Connection, int]:
        async with self._lock:
            if self._current is None or not self._current.takes_requests:
                if self._current is not None:
                    self._tally.events["HTTP/2 connections that ended"] += 1
                self._current = await self._open()
            return self._current, self._port

    async def _open(self) -> Connection:
        sock = await self._target.dial()
        self._port = sock.getsockname()[1]
        try:
            async with asyncio.timeout(TIMEOUT):
                _, connection = await asyncio.get_running_loop().create_connection(
                    Connection,
                    sock=sock,
                    ssl=self._tls,
                    server_hostname="127.0.0.1" if self._tls else None,
                )
        except (OSError, TimeoutError) as error:
            raise _Unopened(error, self._port) from error
        return connection


class _Unopened(Exception):
    def __init__(self, reason: BaseException, port: int) -> None:
        self.reason = reason
        self.port = port
