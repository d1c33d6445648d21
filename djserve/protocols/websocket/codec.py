"""Autobahn as a codec: its frame parser, its permessage-deflate.

This is the only module that knows Autobahn, but for its masker (``masking``). Its
protocol class is put into the open state without its handshake, without a reactor,
timers or txaio, and is entered by the methods that a transport would call; the codec's
tests pin each name that is used.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Protocol

from djserve.interfaces import (
    CLOSE_INVALID_DATA,
    CLOSE_NO_STATUS,
    CLOSE_TOO_BIG,
)
from djserve.packages import require, require_calls
from djserve.postponed import postponed

with postponed("OpenSSL", "OpenSSL.SSL", "click", "hyperlink"):
    from autobahn.websocket import protocol
    from autobahn.websocket.compress_deflate import PerMessageDeflate
    from autobahn.websocket.protocol import WebSocketServerProtocol

from djserve.protocols.websocket.frames import (
    OPCODE_TEXT,
    encode_compressed,
    encode_message,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.protocols.websocket.deflate import DeflateAgreement

require(
    "autobahn",
    WebSocketServerProtocol,
    "CONFIG_ATTRS",
    "STATE_CLOSED",
    "STATE_OPEN",
    "_connectionMade",
    "_dataReceived",
)
require_calls(
    "autobahn",
    WebSocketServerProtocol,
    "_fail_connection",
    "_max_message_size_exceeded",
    "_onMessageBegin",
    "_onMessageEnd",
    "_onMessageFrameBegin",
    "_onMessageFrameData",
    "_onMessageFrameEnd",
    "_onPing",
    "_onPong",
    "dropConnection",
    "sendData",
)
require(
    "autobahn",
    PerMessageDeflate,
    "_compressor",
    "_decompressor",
    "compress_message_data",
    "decompress_message_data",
    "end_compress_message",
    "end_decompress_message",
    "start_compress_message",
    "start_decompress_message",
)

# Shorter messages fit into the same packet either way, and deflating is not for free.
_COMPRESS_FROM = 512
_MEMORY_LEVEL = 5

# Parsers between two frames hold nothing of a connection, so a few serve all.
_SPARE_PARSERS_LIMIT = 16
_spare_parsers: list[Parser] = []

# What Autobahn's module names, for itself alone.
_names: dict[str, Any] = vars(protocol)


# RFC 7692 section 7.2.2: what a sender leaves out at each message's end.
_DEFLATE_TAIL = b"\0\0\xff\xff"


class FrameSink(Protocol):
    """What the parser, and the reader before it, tell the connection."""

    def write(self, data: bytes, /) -> None:
        """Send the answer to a Close frame."""

    def ping_received(self, payload: bytes, /) -> None: ...

    def close_received(self, code: int, reason: str, /) -> None:
        """Take the peer's Close, 1005 if it has no code; it has been answered."""

    def close_answered(self) -> None:
        """Note the peer's Close after ours."""

    def failed(self, code: int, reason: str, /) -> None:
        """Close with this code: the peer broke the protocol or a limit."""

    def turn_spent(self, *, is_heavy: bool) -> None:
        """Call the reader's ``proceed`` in a later turn, and have no more come before.

        ``is_heavy`` if it is this peer that sent much, and not only others.
        """


class _Silence:
    """Autobahn's log: the connection tells what matters of it."""

    def debug(self, message: str, **values: object) -> None: ...

    info = warn = error = debug


class _ServerSide:
    """What Autobahn's protocol asks its factory for."""

    isServer = True
    countConnections = 0


class Deflate(PerMessageDeflate):
    """Autobahn's permessage-deflate with an inflation that loses and hoards nothing.

    Autobahn drops what comes out at a message's end, so that a broken message arrives
    shortened, and its older releases let zlib's errors through. ``fault`` is the close
    code and why a message cannot be read.
    """

    _decompressor: Any
    fault: tuple[int, str] | None
    inflated = 0
    """Bytes that have come out; the caller charges for them and resets it."""

    def inflate_message(self, data: bytes) -> bytes:
        """Inflate a whole message; see ``fault`` for one that cannot be."""
        self.start_decompress_message()
        inflated = self.decompress_message_data(data)
        self.end_decompress_message()
        # It holds its window of up to 32 KiB, and no context is taken over.
        self._decompressor = None
        return inflated

    def start_decompress_message(self) -> None:
        super().start_decompress_message()
        self.fault = None
        self._room = self.max_message_size

    def decompress_message_data(
        self, data: bytes, max_output_len: int | None = None
    ) -> bytes:
        """Inflate a part of a message; b"" once there is a fault."""
        inflated = self._inflate(data, self._room + 1)
        self._room -= len(inflated)
        self.inflated += len(inflated)
        if self._room < 0:
            self.fault = (CLOSE_TOO_BIG, "Message too big")
        elif self._decompressor.unused_data not in (b"", b"\0"):
            # After a last block only an empty one may come (RFC 7692 section 7.2.3.4);
            # zlib would hoard the rest of the message without a bound.
            self.fault = (CLOSE_INVALID_DATA, "Data after the last deflate block")
        return inflated if self.fault is None else b""

    def end_decompress_message(self) -> None:
        """End the message; all of its content must have come out before."""
        if self._inflate(_DEFLATE_TAIL, 1):
            self.fault = (CLOSE_INVALID_DATA, "A deflate block is not complete")

    def _inflate(self, data: bytes, limit: int) -> bytes:
        if self.fault is not None:
            return b""
        try:
            inflated: bytes = self._decompressor.decompress(data, limit)
        except zlib.error:
            self.fault = (CLOSE_INVALID_DATA, "Invalid deflate data")
            return b""
        return inflated


class Parser(WebSocketServerProtocol):
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

    # Autobahn counts a compressed frame before and after inflation as one sum, and
    # keeps each fragment on its own: the limits are ours, below.
    maxFramePayloadSize = 0
    maxMessagePayloadSize = 0

    _isMessageCompressed: bool
    _perMessageCompress: Any
    current_frame: Any
    message: bytearray
    message_limit: int
    frame_limit: int
    utf8validateIncomingCurrentMessage: bool
    utf8validateLast: tuple[bool, bool, int, int]

    sink: FrameSink
    deliver: Callable[[str | bytes], None]

    def __init__(self) -> None:
        # Not the base's, which makes futures by txaio and so needs a framework chosen.
        # It names itself for a line of its log, in colours: for these it would import
        # click, at the first Close frame and while all other clients wait.
        colour = _names.get("hltype", str)
        _names["hltype"] = str
        try:
            self._connectionMade()
        finally:
            _names["hltype"] = colour
        # As its succeedHandshake() leaves it.
        self.state = self.STATE_OPEN
        self.inside_message = False
        self.current_frame = None

    @classmethod
    def take(
        cls,
        sink: FrameSink,
        deliver: Callable[[str | bytes], None],
        limits: tuple[int, int],
        deflate: Deflate | None,
    ) -> Parser:
        """Return one for a connection; ``limits`` are a message's and a frame's."""
        parser = _spare_parsers.pop() if _spare_parsers else cls()
        parser.sink = sink
        parser.deliver = deliver
        parser.message_limit, parser.frame_limit = limits
        parser._perMessageCompress = deflate
        return parser

    @property
    def held_size(self) -> int:
        """Bytes of the message that is under way."""
        return len(self.message) if self.inside_message else 0

    def parse(self, data: bytes) -> bool:
        """Take bytes of one frame; return whether something of it must be kept.

        One frame's at most: Autobahn copies all that lies behind each frame.
        """
        self._dataReceived(data)
        return (
            self.inside_message
            or self.current_frame is not None
            or self.state != self.STATE_OPEN
        )

    def take_fragment(self, first: int, payload: bytes) -> bool:
        """Take a whole data frame that is allowed here; return as ``parse`` does.

        ``first`` is the frame's first byte. Does what Autobahn does from a frame's
        begin to its end, without looking at each byte of its head once more: a tenth
        of the instructions (a client may cut a message into as many as it likes).
        """
        opcode = first & 0x0F
        if opcode:
            self._begin_message(opcode, is_compressed=bool(first & 0x40))
        self._onMessageFrameBegin(len(payload))
        if payload and not self.failedByMe:
            self._add(payload)
        if first & 0x80 and not self.failedByMe:
            self._end_message()
        return self.inside_message or self.failedByMe

    def release(self) -> None:
        """Release the connection; only when there is nothing to keep."""
        deflate = self._perMessageCompress
        if deflate is not None:
            deflate._decompressor = None
        self._perMessageCompress = None
        del self.sink, self.deliver
        if len(_spare_parsers) < _SPARE_PARSERS_LIMIT:
            _spare_parsers.append(self)

    def _begin_message(self, opcode: int, *, is_compressed: bool) -> None:
        self.inside_message = True
        self._isMessageCompressed = is_compressed
        if is_compressed:
            self._perMessageCompress.start_decompress_message()
        is_text = self.utf8validateIncomingCurrentMessage = opcode == OPCODE_TEXT
        if is_text:
            self.utf8validator.reset()
            self.utf8validateLast = (True, True, 0, 0)
        self._onMessageBegin(not is_text)

    def _add(self, payload: bytes) -> None:
        if self._isMessageCompressed:
            payload = self._perMessageCompress.decompress_message_data(payload)
        # ASCII between two characters needs no look (a message in one-byte fragments).
        if self.utf8validateIncomingCurrentMessage and not (
            self.utf8validateLast[1] and payload.isascii()
        ):
            self.utf8validateLast = self.utf8validator.validate(payload)
            if not self.utf8validateLast[0]:
                self._fail_connection(CLOSE_INVALID_DATA, "Invalid UTF-8")
        self._onMessageFrameData(payload)

    def _end_message(self) -> None:
        if self._isMessageCompressed:
            self._perMessageCompress.end_decompress_message()
        if self.utf8validateIncomingCurrentMessage and not self.utf8validateLast[1]:
            self._fail_connection(CLOSE_INVALID_DATA, "Text ends within a character")
        self._onMessageEnd()
        self.inside_message = False

    # Called by Autobahn.

    def _onMessageBegin(self, isBinary: bool) -> None:
        self.message_is_binary = isBinary
        # Autobahn adds to it and looks at it only if its own limits are set.
        self.message_data_total_length = 0
        self.message = bytearray()

    def _onMessageFrameBegin(self, length: int) -> None:
        limit = self.frame_limit
        if self._isMessageCompressed:
            limit = compressed_limit(limit)
        elif len(self.message) + length > self.message_limit:
            self._max_message_size_exceeded()
        if length > limit:
            self._max_message_size_exceeded()

    def _onMessageFrameData(self, payload: bytes) -> None:
        self._check_inflation()
        # One buffer: a list would cost forty bytes for a fragment of one or none.
        if not self.failedByMe:
            self.message += payload

    def _onMessageFrameEnd(self) -> None:
        """A fragment is complete; only the message's end matters."""

    def _onMessageEnd(self) -> None:
        self._check_inflation()
        payload, self.message = bytes(self.message), bytearray()
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

    def _check_inflation(self) -> None:
        if self._isMessageCompressed and self._perMessageCompress.fault is not None:
            self._fail_connection(*self._perMessageCompress.fault)

    def _max_message_size_exceeded(self, *details: object) -> None:
        self._fail_connection(CLOSE_TOO_BIG, "Message too big")

    def _fail_connection(self, code: int = 1002, reason: str = "") -> None:
        self.state = self.STATE_CLOSED
        if not self.failedByMe:
            self.failedByMe = True
            self.sink.failed(code, reason)


def compressed_limit(limit: int) -> int:
    """Return how long a compressed frame may be if ``limit`` is that of others.

    What a message inflates to is limited by Deflate itself; here it may be longer, by
    as much as deflating the incompressible can add.
    """
    return limit + limit // 8 + limit // 64 + 64


def create_deflate(agreement: DeflateAgreement, message_limit: int) -> Deflate:
    """Return Autobahn's permessage-deflate; it holds no memory between messages.

    It inflates no message beyond the limit, however little of it has arrived.
    """
    return Deflate(
        True,
        True,
        True,
        agreement.server_window_bits,
        agreement.client_window_bits,
        _MEMORY_LEVEL,
        max_message_size=message_limit,
    )


def encode(payload: bytes, opcode: int, deflate: Deflate | None) -> bytes:
    """Write a message in one frame, deflated if that was agreed on and helps."""
    if deflate is None or len(payload) < _COMPRESS_FROM:
        return encode_message(payload, opcode)
    deflate.start_compress_message()
    compressed = deflate.compress_message_data(payload) + deflate.end_compress_message()
    # A compressor holds 32 KiB and is not used again: its context is not taken over.
    deflate._compressor = None
    if len(compressed) >= len(payload):
        return encode_message(payload, opcode)
    return encode_compressed(compressed, opcode)
