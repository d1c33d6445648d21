"""One HTTP/2 connection in memory: raw frames in, frames out, requests recorded."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import fields as config_fields
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hpack import Decoder, Encoder
from hpack.struct import NeverIndexedHeaderTuple

from djserve.conf.schema import HTTP2Config, HTTPConfig
from djserve.interfaces import ConnectionInfo, Headers, RequestHead, Stream
from djserve.protocols.http2 import frames
from djserve.protocols.http2.connection import HTTP2Connection
from djserve.protocols.http2.response import ServerFields
from djserve.protocols.http2.streams import HTTP2Service
from djserve.testing.transport import MemoryTransport
from tests.support.recorders import RecordedRequest, RecordingOwner

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djserve.interfaces import Connection, Transport

GET: Headers = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"a"),
    (b":path", b"/"),
]


class Frame(NamedTuple):
    """A frame as it stands on the wire."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def is_last(self) -> bool:
        return bool(self.flags & frames.END_STREAM)


class Response:
    """What a stream got: interim statuses, a head, content, trailers."""

    def __init__(self) -> None:
        self.interim: list[int] = []
        self.head: dict[bytes, bytes] = {}
        self.content = b""
        self.trailers: Headers = []
        self.is_complete = False

    @property
    def status(self) -> int:
        return int(self.head.get(b":status", b"0"))


class Request(RecordedRequest):
    """One request's recorder, which the wire's function answers."""

    def __init__(self, wire: Wire, head: RequestHead, stream: Stream) -> None:
        super().__init__(head, stream)
        self.wire = wire

    def start(self) -> None:
        super().start()
        if self.wire.on_start is not None:
            self.wire.on_start(self)


class Wire(RecordingOwner[Request]):
    """A server's connection, and the client's end of it as raw frames.

    ``on_start`` answers in the call that starts the request, as an eager task does.
    Settings of both groups are keyword arguments. Unless ``greet`` is off, the preface
    and the client's SETTINGS have gone through already.
    """

    def __init__(
        self,
        *,
        greet: bool = True,
        on_start: Callable[[Request], None] | None = None,
        refuse: Callable[[RequestHead], None] = lambda head: None,
        client_settings: bytes = b"",
        server_name: str = "",
        **config: Any,
    ) -> None:
        super().__init__(partial(Request, self), refuse)
        self.on_start = on_start
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.responses: dict[int, Response] = {}
        self.promises: dict[int, dict[bytes, bytes]] = {}
        self.resets: dict[int, int] = {}
        self.goaways: list[tuple[int, int]] = []
        self.log: list[Frame] = []
        self.transport = MemoryTransport()
        self.fields = ServerFields(server_name)
        http2_names = {field.name for field in config_fields(HTTP2Config)}
        http2 = {key: config.pop(key) for key in list(config) if key in http2_names}
        service = HTTP2Service(
            self,
            HTTPConfig(**config),
            HTTP2Config(**http2),
            self.fields,
            self.soon.append,
        )
        self.connection = HTTP2Connection(
            self.transport, ConnectionInfo(("192.0.2.1", 50000), None), service
        )
        self.transport.set_protocol(self.connection)
        self.turn()
        if greet:
            self.feed(
                frames.PREFACE, self.frame(frames.SETTINGS, 0, 0, client_settings)
            )
            self.feed(self.frame(frames.SETTINGS, frames.ACK, 0))
            self.log.clear()

    def change_to_http2(
        self, connection: Connection, transport: Transport, info: ConnectionInfo
    ) -> None:
        raise AssertionError("A connection of HTTP/2 changed to HTTP/2")

    # Frames of the client.

    @staticmethod
    def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
        return frames.pack_header(len(payload), kind, flags, stream_id) + payload

    def block(self, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Encode fields so that the order of use does not matter."""
        return self.encoder.encode([NeverIndexedHeaderTuple(*pair) for pair in fields])

    def headers(
        self,
        stream_id: int,
        *extra: tuple[bytes, bytes],
        end: bool = True,
        base: Headers = GET,
        **pseudo: bytes,
    ) -> bytes:
        """A request's HEADERS; keywords replace pseudo-header fields."""
        fields = [(name, pseudo.get(name[1:].decode(), value)) for name, value in base]
        flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
        return self.frame(
            frames.HEADERS, flags, stream_id, self.block([*fields, *extra])
        )

    def data(self, stream_id: int, data: bytes = b"", end: bool = False) -> bytes:
        return self.frame(frames.DATA, frames.END_STREAM if end else 0, stream_id, data)

    def reset(self, stream_id: int, code: int = 8) -> bytes:
        return frames.encode_reset(stream_id, code)

    def window(self, stream_id: int, increment: int) -> bytes:
        return self.frame(
            frames.WINDOW_UPDATE, 0, stream_id, struct.pack(">L", increment)
        )

    @staticmethod
    def setting(code: int, value: int) -> bytes:
        return struct.pack(">HL", code, value)

    def settings(self, code: int, value: int) -> bytes:
        return self.frame(frames.SETTINGS, 0, 0, self.setting(code, value))

    # What tests do and ask.

    def feed(self, *chunks: bytes) -> Wire:
        self.transport.feed(*chunks)
        return self.turn()

    def turn(self) -> Wire:
        """Run the loop's next turns until nothing is left, and read what is written."""
        while self.soon:
            soon, self.soon[:] = list(self.soon), []
            for callback in soon:
                callback()
        self._read()
        return self

    def tick(self, *times: float) -> Wire:
        for now in times:
            self.connection.tick(now)
            self.turn()
        return self

    def is_closed(self) -> bool:
        """Whether the server has ended the connection, at least its own side."""
        return self.transport.is_closing or self.transport.is_eof_written

    def kinds(self) -> list[int]:
        return [frame.kind for frame in self.log]

    @property
    def last_code(self) -> int | None:
        """The error code of the last GOAWAY."""
        return self.goaways[-1][1] if self.goaways else None

    def _read(self) -> None:
        data = self.transport.take()
        while data:
            high, low, kind, flags, stream_id = frames.unpack_header(data)
            end = 9 + (high << 16 | low)
            frame = Frame(kind, flags, stream_id, data[9:end])
            assert len(frame.payload) == high << 16 | low
            data = data[end:]
            self.log.append(frame)
            self._note(frame)

    def _note(self, frame: Frame) -> None:
        if frame.kind == frames.GOAWAY:
            self.goaways.append(struct.unpack(">LL", frame.payload[:8]))
        elif frame.kind == frames.RST_STREAM:
            assert frame.stream_id not in self.resets
            (self.resets[frame.stream_id],) = struct.unpack(">L", frame.payload)
        elif frame.kind == frames.PUSH_PROMISE:
            (promised,) = struct.unpack(">L", frame.payload[:4])
            block = self.decoder.decode(frame.payload[4:], raw=True)
            self.promises[promised] = dict(block)
        elif frame.kind in (frames.HEADERS, frames.DATA):
            self._note_response(frame)

    def _note_response(self, frame: Frame) -> None:
        response = self.responses.setdefault(frame.stream_id, Response())
        assert not response.is_complete
        response.is_complete = frame.is_last
        if frame.kind == frames.DATA:
            assert response.head
            response.content += frame.payload
            return
        assert frame.flags & frames.END_HEADERS
        pairs = [(n, v) for n, v in self.decoder.decode(frame.payload, raw=True)]
        if response.head:
            assert frame.is_last
            response.trailers = pairs
        elif pairs[0][1].startswith(b"1"):
            response.interim.append(int(pairs[0][1]))
        else:
            response.head = dict(pairs)


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


@pytest.fixture(scope="session")
def open_wire() -> type[Wire]:
    """Give ``open_wire(**settings)``: a fresh connection."""
    return Wire


@pytest.fixture(scope="session")
def split_bytes() -> Callable[[bytes, Iterable[int]], list[bytes]]:
    """Give ``split_bytes(data, cuts)``: the same bytes in pieces."""
    return split
