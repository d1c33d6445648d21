"""Bytes <-> messages of an open WebSocket: Autobahn's frame parser behind a fast lane.

This is the only module that knows Autobahn. Its protocol class is put into the open
state without its handshake, without a reactor, timers or txaio, and is entered by the
methods that a transport would call; the codec's tests pin each name that is used. It is
given one frame's bytes at a time, since it copies all that lies behind each frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from autobahn.websocket.compress_deflate import PerMessageDeflate
from autobahn.websocket.protocol import WebSocketProtocol, WebSocketServerProtocol

from djserve.protocols.websocket.frames import (
    CLOSE_NO_STATUS,
    OPCODE_BINARY,
    OPCODE_CLOSE,
    OPCODE_TEXT,
    encode_compressed,
    encode_message,
)

try:
    from _nvx_xormasker import ffi as _ffi
    from _nvx_xormasker import lib as _nvx
except ImportError:  # pragma: no cover - Autobahn's wheels have it, its sdist may not
    _ffi = _nvx = None

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.protocols.websocket.deflate import DeflateAgreement

# From here on the native masker is faster than an integer (benchmark: websocket_mask).
_NATIVE_MASK_FROM = 256
_NVX_SSE2 = 2

# Shorter messages fit into the same packet either way, and deflating is not for free.
_COMPRESS_FROM = 512
_MEMORY_LEVEL = 5

_TEXT = 0x80 | OPCODE_TEXT
_BINARY = 0x80 | OPCODE_BINARY

# Parsers between two frames hold nothing of a connection, so a few serve all.
_SPARE_PARSERS_LIMIT = 16
_spare_parsers: list[_Parser] = []


class FrameSink(Protocol):
    """What the codec tells the connection that owns it."""

    def write(self, data: bytes, /) -> None:
        """Send the answer to a Close frame."""

    def ping_received(self, payload: bytes, /) -> None: ...

    def close_received(self, code: int, reason: str, /) -> None:
        """Take the peer's Close, 1005 if it has no code; it has been answered."""

    def close_answered(self) -> None:
        """Note the peer's Close after ours (see ``discard``)."""

    def failed(self, code: int, reason: str, /) -> None:
        """Close with this code: the peer broke the protocol or a limit."""


class FrameCodec:
    """The frames of one connection that is open.

    ``deliver`` gets each message, text as str and binary as bytes. It and the sink may
    call ``pause``, ``discard`` and ``stop`` at any time, also from within ``receive``.
    """

    __slots__ = (
        "_buffer",
        "_deflate",
        "_deliver",
        "_frame_limit",
        "_in_lane",
        "_is_busy",
        "_is_discarding",
        "_is_paused",
        "_is_stopped",
        "_lane_limit",
        "_message_limit",
        "_opcode",
        "_parser",
        "_position",
        "_rest",
        "_sink",
    )

    def __init__(
        self,
        sink: FrameSink,
        deliver: Callable[[str | bytes], None],
        *,
        message_limit: int,
        frame_limit: int,
        deflate: DeflateAgreement | None = None,
    ) -> None:
        self._sink = sink
        self._deliver = deliver
        self._message_limit = message_limit
        self._frame_limit = frame_limit
        self._lane_limit = min(message_limit, frame_limit)
        self._deflate = _create_deflate(deflate) if deflate is not None else None
        # What has arrived and is not read yet: nearly always one chunk, or none.
        self._buffer = b""
        self._position = 0
        # The frame that is under way on the slow path.
        self._rest = 0
        self._opcode = 0
        self._parser: _Parser | None = None
        self._in_lane = True
        self._is_busy = False
        self._is_paused = False
        self._is_discarding = False
        self._is_stopped = False

    def receive(self, data: bytes) -> None:
        """Read a chunk as it came from the transport."""
        if self._is_stopped:
            return
        if self._position < len(self._buffer):
            data = self._buffer[self._position :] + data
        self._buffer = data
        self._position = 0
        if not self._is_busy:
            self._read()

    def pause(self) -> None:
        """Deliver nothing until ``resume``; what has arrived is kept."""
        self._is_paused = True
        self._in_lane = False

    def resume(self) -> None:
        """Deliver again, beginning with what has been kept."""
        self._is_paused = False
        if not self._is_busy:
            self._read()

    def discard(self) -> None:
        """Skip all from now on, up to the peer's Close frame: ours has been sent.

        Autobahn would go on inflating and validating after it failed a message, and
        gets stuck in one that is too large, so its parser is not used for this.
        """
        self._is_discarding = True
        self._is_paused = False
        self._in_lane = False
        self._parser = None
        if not self._is_busy:
            self._read()

    def stop(self) -> None:
        """Read nothing more and let go of everything."""
        self._is_stopped = True
        self._in_lane = False
        self._buffer = b""
        self._position = 0
        self._parser = self._deflate = None

    def encode(self, data: str | bytes) -> bytes:
        """Write a message in one frame, deflated where that was agreed and helps."""
        if isinstance(data, str):
            payload, opcode = data.encode(), OPCODE_TEXT
        else:
            payload, opcode = data, OPCODE_BINARY
        if self._deflate is not None and len(payload) >= _COMPRESS_FROM:
            compressed = _compress(self._deflate, payload)
            if len(compressed) < len(payload):
                return encode_compressed(compressed, opcode)
        return encode_message(payload, opcode)

    def _read(self) -> None:
        self._is_busy = True
        while self._position < len(self._buffer) and not self._is_paused:
            self._in_lane = not self._is_discarding and self._parser is None
            if self._in_lane:
                self._read_lane()
            if self._is_paused or self._is_stopped or not self._read_frame():
                break
        self._is_busy = False
        if self._position == len(self._buffer) or self._is_stopped:
            self._buffer = b""
            self._position = 0

    def _read_lane(self) -> None:
        """Read whole, unfragmented, masked, uncompressed messages; stop at all else.

        Autobahn needs 20 us for such a frame (benchmark: websocket_echo). What is
        malformed is left to it too, so that both paths fail alike.
        """
        data, position = self._buffer, self._position
        size, limit, deliver = len(data), self._lane_limit, self._deliver
        while size - position >= 6:
            first = data[position]
            length = data[position + 1] - 0x80
            if (first != _TEXT and first != _BINARY) or length < 0:
                return
            if length < 126:
                start = position + 6
            elif length == 126:
                start = position + 8
                length = int.from_bytes(data[position + 2 : position + 4], "big")
                if length < 126:
                    return
            else:
                start = position + 14
                length = int.from_bytes(data[position + 2 : position + 10], "big")
                if length < 65536:
                    return
            end = start + length
            if end > size or length > limit:
                return
            payload = unmask(data[start - 4 : start], data[start:end])
            message: str | bytes = payload
            if first == _TEXT:
                try:
                    message = payload.decode()
                except UnicodeDecodeError:
                    return
            self._position = position = end
            deliver(message)
            if not self._in_lane:
                return

    def _read_frame(self) -> bool:
        """Read what there is of one frame; False if its head is not complete."""
        if not self._rest and not self._begin_frame():
            return False
        end = min(self._position + self._rest, len(self._buffer))
        data = self._buffer[self._position : end]
        self._rest -= len(data)
        self._position = end
        if not self._is_discarding:
            self._feed(data)
        # A Close frame that was itself wrong is the peer's last one all the same.
        if self._is_discarding and not self._rest and self._opcode == OPCODE_CLOSE:
            self._sink.close_answered()
        return not self._is_stopped

    def _begin_frame(self) -> bool:
        data, position = self._buffer, self._position
        available = len(data) - position
        if available < 2:
            return False
        length = data[position + 1] & 0x7F
        extended = {126: 2, 127: 8}.get(length, 0)
        head = 2 + extended + (4 if data[position + 1] & 0x80 else 0)
        if available < head:
            return False
        if extended:
            length = int.from_bytes(data[position + 2 : position + 2 + extended], "big")
        self._opcode = data[position] & 0x0F
        self._rest = head + length
        return True

    def _feed(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            self._parser = parser = _take_parser()
            parser.sink = self._sink
            parser.deliver = self._deliver
            parser.maxMessagePayloadSize = self._message_limit
            parser.maxFramePayloadSize = self._frame_limit
            parser._perMessageCompress = self._deflate
        parser._dataReceived(data)
        if parser.is_between_messages() and self._parser is parser:
            self._parser = None
            _return_parser(parser)


class _Silence:
    """Autobahn's log: the connection tells what matters of it."""

    def debug(self, message: str, **values: object) -> None: ...

    info = warn = error = debug


class _ServerSide:
    """What Autobahn's protocol asks its factory for."""

    isServer = True
    countConnections = 0


class _Parser(WebSocketServerProtocol):
    """Autobahn's protocol as a parser: no handshake, no clock, no transport.

    Its options are class attributes, so that it copies none of them to the instance.
    """

    CONFIG_ATTRS: list[str] = []
    factory = _ServerSide()
    log = _Silence()

    applyMask = True
    autoPingInterval = 0
    autoPingRestartOnAnyTraffic = False
    closeHandshakeTimeout = 0
    echoCloseCodeReason = True
    failByDrop = False
    logFrames = False
    logOctets = False
    maskServerFrames = False
    openHandshakeTimeout = 0
    requireMaskedClientFrames = True
    trackTimings = False
    utf8validateIncoming = True
    websocket_version = 13

    maxFramePayloadSize: int
    maxMessagePayloadSize: int
    current_frame: Any
    message_data: Any

    sink: FrameSink
    deliver: Callable[[str | bytes], None]

    _onMessageBegin = WebSocketProtocol.onMessageBegin
    _onMessageFrame = WebSocketProtocol.onMessageFrame
    _onMessageFrameBegin = WebSocketProtocol.onMessageFrameBegin
    _onMessageFrameData = WebSocketProtocol.onMessageFrameData
    _onMessageFrameEnd = WebSocketProtocol.onMessageFrameEnd

    def __init__(self) -> None:
        # Not the base's, which makes futures by txaio and so needs a framework chosen.
        self._connectionMade()
        # As its succeedHandshake() leaves it.
        self.state = self.STATE_OPEN
        self.inside_message = False
        self.current_frame = None

    def is_between_messages(self) -> bool:
        """Tell whether nothing is kept of what has been read, and nothing was wrong."""
        return (
            not self.inside_message
            and self.current_frame is None
            and self.state == self.STATE_OPEN
        )

    def release(self) -> None:
        """Let go of the connection that has been served."""
        deflate = self._perMessageCompress
        if deflate is not None:
            deflate._decompressor = None
        self._perMessageCompress = None
        del self.sink, self.deliver

    # Called by Autobahn.

    def _onMessageEnd(self) -> None:
        payload = b"".join(self.message_data)
        self.message_data = None
        if not self.failedByMe:
            self.deliver(payload if self.message_is_binary else payload.decode())

    def _onPing(self, payload: bytes) -> None:
        self.sink.ping_received(payload)

    def _onPong(self, payload: bytes) -> None:
        """Any byte received proves that the peer lives; a pong needs no more."""

    def sendData(self, data: bytes, *args: object) -> None:
        self.sink.write(data)

    def dropConnection(self, abort: bool = False) -> None:
        self.state = self.STATE_CLOSED
        code = self.remoteCloseCode
        self.sink.close_received(
            CLOSE_NO_STATUS if code is None else code, self.remoteCloseReason or ""
        )

    def _fail_connection(self, code: int = 1002, reason: str = "") -> None:
        self.state = self.STATE_CLOSED
        if not self.failedByMe:
            self.failedByMe = True
            self.sink.failed(code, reason)


def unmask(key: bytes, payload: bytes) -> bytes:
    """Apply a masking key of four bytes (RFC 6455 section 5.3)."""
    size = len(payload)
    if size >= _NATIVE_MASK_FROM and _nvx is not None:
        return _unmask_native(key, payload)
    mask = int.from_bytes((key * ((size + 3) // 4))[:size], "little")
    return (int.from_bytes(payload, "little") ^ mask).to_bytes(size, "little")


def _unmask_native(key: bytes, payload: bytes) -> bytes:
    # Autobahn's own wrapper costs three times as much for 1 KiB.
    masker = _nvx.nvx_xormask_new(key)
    _nvx.nvx_xormask_set_impl(masker, _NVX_SSE2)
    unmasked = bytearray(payload)
    _nvx.nvx_xormask_process(masker, _ffi.from_buffer(unmasked), len(unmasked))
    _nvx.nvx_xormask_free(masker)
    return bytes(unmasked)


def _take_parser() -> _Parser:
    return _spare_parsers.pop() if _spare_parsers else _Parser()


def _return_parser(parser: _Parser) -> None:
    parser.release()
    if len(_spare_parsers) < _SPARE_PARSERS_LIMIT:
        _spare_parsers.append(parser)


def _create_deflate(agreement: DeflateAgreement) -> Any:
    return PerMessageDeflate(
        True,
        True,
        True,
        agreement.server_window_bits,
        agreement.client_window_bits,
        _MEMORY_LEVEL,
    )


def _compress(deflate: Any, payload: bytes) -> bytes:
    deflate.start_compress_message()
    compressed = deflate.compress_message_data(payload) + deflate.end_compress_message()
    # A compressor holds 32 KiB and is not used again: its context is not taken over.
    deflate._compressor = None
    return bytes(compressed)
