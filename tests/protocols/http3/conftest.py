"""One HTTP/3 connection in memory: frames in, streams out, requests recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pylsqpack
import pytest

from djserve.conf.schema import HTTP2Config, HTTPConfig
from djserve.interfaces import ConnectionInfo, Headers, RequestHead, Stream
from djserve.protocols.http3 import frames
from djserve.protocols.http3.connection import HTTP3Connection
from djserve.protocols.http3.response import ServerFields
from djserve.protocols.http3.streams import HTTP3Service

if TYPE_CHECKING:
    from djserve.errors import ProtocolError

GET: Headers = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"a"),
    (b":path", b"/"),
]


class MemoryStreams:
    """A transport in memory (interfaces.MultiplexTransport)."""

    def __init__(self) -> None:
        self.written: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.stops: dict[int, int] = {}
        self.credit: dict[int, int] = {}
        self.forgotten: list[int] = []
        self.priorities: dict[int, tuple[int, bool]] = {}
        self.waiting: dict[int, int] = {}
        self.unacknowledged_size = 0
        self.pings = 0
        self.closed: int | None = None
        self.is_aborted = False
        self.datagrams: list[bytes] = []
        self.begun: set[int] = set()
        self.blocked: set[int] = set()
        self._opened = {True: 0, False: 0}

    def open_stream(self, is_unidirectional: bool = True) -> int:
        count = self._opened[is_unidirectional]
        self._opened[is_unidirectional] += 1
        return 4 * count + (3 if is_unidirectional else 1)

    def is_blocked(self, stream_id: int) -> bool:
        return stream_id in self.blocked

    def has_begun(self, stream_id: int) -> bool:
        return stream_id in self.begun

    def send_datagram(self, data: bytes) -> None:
        self.datagrams.append(data)

    def write_stream(self, stream_id: int, data: bytes, is_last: bool) -> None:
        assert stream_id not in self.ended
        self.written[stream_id] = self.written.get(stream_id, b"") + data
        if is_last:
            self.ended.add(stream_id)

    def reset_stream(self, stream_id: int, code: int) -> None:
        self.resets[stream_id] = code

    def stop_stream(self, stream_id: int, code: int) -> None:
        self.stops[stream_id] = code

    def acknowledge(self, stream_id: int, size: int) -> None:
        self.credit[stream_id] = self.credit.get(stream_id, 0) + size

    def forget_stream(self, stream_id: int) -> None:
        self.forgotten.append(stream_id)

    def set_priority(self, stream_id: int, urgency: int, is_incremental: bool) -> None:
        self.priorities[stream_id] = (urgency, is_incremental)

    def waiting_size(self, stream_id: int) -> int:
        return self.waiting.get(stream_id, 0)

    def sent_size(self, stream_id: int) -> int:
        return len(self.written.get(stream_id, b"")) - self.waiting_size(stream_id)

    def ping(self) -> None:
        self.pings += 1

    def flush(self) -> None:
        pass

    def end(self, code: int, reason: str) -> None:
        self.closed = code

    def abort(self) -> None:
        self.is_aborted = True


class Request:
    """A request that has reached the application (interfaces.Exchange)."""

    def __init__(self, head: RequestHead, stream: Stream) -> None:
        self.head = head
        self.stream = stream
        self.content = b""
        self.is_complete = self.is_running = self.is_started = False
        self.is_draining = self.is_lost = False
        self.resumed = 0

    def start(self) -> None:
        self.is_started = self.is_running = True

    def data_received(self, data: bytes) -> None:
        self.content += data

    def eof_received(self) -> None:
        self.is_complete = True

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None:
        self.resumed += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self.is_running = False

    def tick(self, now: float) -> None: ...

    def drain(self) -> None:
        self.is_draining = True

    def answer(self, content: bytes = b"ok") -> None:
        self.is_running = False
        self.stream.send_response(200, [], content, more=False)


class Wire:
    """A connection, its owner, and its peer's side (interfaces.ConnectionOwner)."""

    def __init__(
        self, greet: bool = True, has_sessions: bool = False, **settings: Any
    ) -> None:
        http2 = {key: settings.pop(key) for key in list(settings) if "http2" in key}
        self.transport = MemoryStreams()
        self.requests: list[Request] = []
        self.refused: list[ProtocolError] = []
        self.is_lost = False
        self.soon: list[Callable[[], None]] = []
        self.encoder = pylsqpack.Encoder()
        service = HTTP3Service(
            self,  # type: ignore[arg-type]
            HTTPConfig(**settings),
            HTTP2Config(**http2),
            ServerFields("djserve"),
            self.soon.append,
            has_sessions,
        )
        info = ConnectionInfo(("1.2.3.4", 5), ("6.7.8.9", 443), {}, False, "h3")
        self.connection = HTTP3Connection(self.transport, info, service)
        if greet:
            self.feed(2, b"\0" + frames.encode_settings({}))

    def open_exchange(
        self, head: RequestHead, info: ConnectionInfo, stream: Stream
    ) -> Request:
        self.requests.append(Request(head, stream))
        return self.requests[-1]

    def request_refused(
        self, head: RequestHead | None, info: ConnectionInfo, error: ProtocolError
    ) -> None:
        self.refused.append(error)

    def connection_lost(self, connection: object) -> None:
        self.is_lost = True

    def headers(self, *fields: tuple[bytes, bytes], **pseudo: bytes) -> bytes:
        """Return a HEADERS frame of a request."""
        head = {**dict(GET), **{f":{k}".encode(): v for k, v in pseudo.items()}}
        block = self.encoder.encode(0, [*head.items(), *fields])[1]
        return frames.encode_frame(frames.HEADERS, block)

    def block(self, fields: Headers) -> bytes:
        """Return a HEADERS frame of any fields."""
        return frames.encode_frame(frames.HEADERS, self.encoder.encode(0, fields)[1])

    def feed(self, stream_id: int, data: bytes, end: bool = False) -> None:
        """Have a datagram with bytes of one stream read."""
        self.transport.begun.add(stream_id)
        self.connection.stream_received(stream_id, data, end)
        self.connection.batch_received()

    def run_soon(self) -> None:
        """Take the loop's next turn."""
        soon, self.soon[:] = list(self.soon), []
        for call in soon:
            call()

    def response(self, stream_id: int) -> tuple[dict[bytes, bytes], bytes]:
        """Return the head and the content on a stream."""
        data, position, content = self.transport.written[stream_id], 0, b""
        head: dict[bytes, bytes] = {}
        decoder = pylsqpack.Decoder(0, 0)
        while position < len(data):
            kind, length = frames.read_integer(data, position) or (0, 0)
            size, start = frames.read_integer(data, length) or (0, 0)
            payload, position = data[start : start + size], start + size
            if kind == frames.HEADERS:
                head |= dict(decoder.feed_header(stream_id, payload)[1])
            else:
                content += payload
        return head, content


@pytest.fixture
def open_wire() -> type[Wire]:
    """Give ``open_wire(**settings)``."""
    return Wire
