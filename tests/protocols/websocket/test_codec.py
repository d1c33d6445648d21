from __future__ import annotations

import os
import subprocess
import sys
import zlib

import pytest
from autobahn.websocket.protocol import WebSocketServerProtocol

from djserve.protocols.websocket import codec
from djserve.protocols.websocket.codec import Parser, create_deflate, encode
from djserve.protocols.websocket.deflate import DeflateAgreement
from djserve.protocols.websocket.frames import OPCODE_BINARY, OPCODE_TEXT

KEY = b"\x01\x80\xfe\x7f"
DEFLATE = create_deflate(DeflateAgreement(12, 12, b""), 1 << 20)
TEXT = b"ab" * 600


class Sink:
    """A connection's part: notes what it is told."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def deliver(self, data: str | bytes) -> None:
        self.events.append(data)

    def write(self, data: bytes) -> None:
        self.events.append(data)

    def ping_received(self, payload: bytes) -> None:
        self.events.append(payload)

    def close_received(self, code: int, reason: str) -> None:
        self.events.append(code)

    def close_answered(self) -> None: ...

    def failed(self, code: int, reason: str) -> None:
        self.events.append((code, reason))

    def turn_spent(self, *, is_heavy: bool) -> None: ...


def take_parser() -> tuple[Parser, list[object]]:
    sink = Sink()
    return Parser.take(sink, sink.deliver, (100, 100), None), sink.events


def inflate(data: bytes, bits: int = 12) -> bytes:
    return zlib.decompressobj(-bits).decompress(data + b"\0\0\xff\xff")


def test_parser_must_be_kept_until_its_message_is_complete() -> None:
    parser, events = take_parser()

    assert parser.parse(b"\x01\x82\0\0\0\0a")
    assert parser.parse(b"b")
    assert not parser.parse(b"\x80\x81\0\0\0\0c")
    assert events == ["abc"]


def test_released_parser_serves_the_next_connection() -> None:
    parser, _ = take_parser()
    parser.release()

    assert take_parser()[0] is parser


def test_few_parsers_are_spared() -> None:
    parsers = [take_parser()[0] for _ in range(30)]
    for parser in parsers:
        parser.release()

    assert len(codec._spare_parsers) == 16


def test_whole_fragments_are_put_together_as_autobahn_does() -> None:
    parser, events = take_parser()

    assert parser.take_fragment(0x01, b"\xc3")
    assert parser.parse(b"\0\x81\0\0\0\0\xa9")
    assert parser.take_fragment(0x00, b"")
    assert not parser.take_fragment(0x80, b"!")
    assert events == ["\xe9!"]


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        pytest.param([(0x01, b"\xff")], 1007, id="no UTF-8"),
        pytest.param([(0x01, b"a"), (0x80, b"\xc3")], 1007, id="cut character"),
        pytest.param([(0x02, bytes(101))], 1009, id="long frame"),
        pytest.param([(0x02, bytes(60)), (0x00, bytes(41))], 1009, id="long message"),
    ],
)
def test_fragment_that_is_wrong_fails_once(
    frames: list[tuple[int, bytes]], code: int
) -> None:
    parser, events = take_parser()

    assert [parser.take_fragment(*frame) for frame in frames][-1]
    assert [event[0] for event in events] == [code]  # type: ignore[index]


def test_whole_message_is_inflated() -> None:
    compressed = deflate_by_hand(TEXT)

    assert DEFLATE.inflate_message(compressed) == TEXT
    assert DEFLATE.fault is None
    assert DEFLATE._decompressor is None


def test_what_came_out_is_counted() -> None:
    DEFLATE.inflated = 5
    DEFLATE.inflate_message(deflate_by_hand(TEXT))

    assert DEFLATE.inflated == 5 + len(TEXT)


def deflate_by_hand(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -12)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_parser_fails_once_and_is_not_given_back() -> None:
    parser, events = take_parser()

    assert parser.parse(b"\xb3\x81\0\0\0\0a")
    assert events == [(1002, "RSV = 3 and no extension negotiated")]


def test_long_message_is_sent_deflated() -> None:
    frame = encode(TEXT, OPCODE_TEXT, DEFLATE)

    assert frame[0] == 0xC1
    assert inflate(frame[2:]) == TEXT


def test_no_context_is_taken_over_when_sending() -> None:
    frame = encode(TEXT, OPCODE_TEXT, DEFLATE)

    assert encode(TEXT, OPCODE_TEXT, DEFLATE) == frame
    assert DEFLATE._compressor is None


@pytest.mark.parametrize("data", [b"short", os.urandom(2000)], ids=["short", "random"])
def test_message_that_does_not_shrink_is_sent_as_it_is(data: bytes) -> None:
    frame = encode(data, OPCODE_BINARY, DEFLATE)

    assert frame == encode(data, OPCODE_BINARY, None)
    assert frame.endswith(data)


# Autobahn's inside, as far as the reader relies on it.

USED_METHODS = [
    "_connectionMade",
    "_dataReceived",
    "_fail_connection",
    "_max_message_size_exceeded",
    "dropConnection",
    "onFrameBegin",
    "onFrameData",
    "onFrameEnd",
    "processControlFrame",
    "sendData",
]


@pytest.mark.parametrize("name", USED_METHODS)
def test_autobahn_has_the_methods_that_are_used(name: str) -> None:
    assert callable(getattr(WebSocketServerProtocol, name))


@pytest.mark.parametrize(
    "name", ["state", "inside_message", "current_frame", "failedByMe", "data"]
)
def test_autobahn_keeps_its_state_under_these_names(name: str) -> None:
    parser, _ = take_parser()
    parser.parse(b"\x01\x81\0\0\0\0a")

    assert name in vars(parser)


def test_autobahn_is_given_every_option_that_it_asks_for() -> None:
    options = set(WebSocketServerProtocol.CONFIG_ATTRS)
    given_options = set(vars(Parser))
    handshake_only = {
        "allowNullOrigin",
        "allowedOrigins",
        "allowedOriginsPatterns",
        "autoFragmentSize",
        "autoPingSize",
        "autoPingTimeout",
        "flashSocketPolicy",
        "maxConnections",
        "perMessageCompressionAccept",
        "serveFlashSocketPolicy",
        "tcpNoDelay",
        "trustXForwardedFor",
        "versions",
        "webStatus",
    }

    assert options - given_options == handshake_only


@pytest.mark.e2e
def test_codec_leaves_reactor_and_txaio_alone() -> None:
    program = (
        "import sys, txaio\n"
        "from djserve.protocols.websocket.reader import FrameReader\n"
        "assert not txaio.using_twisted and not txaio.using_asyncio\n"
        "assert 'twisted.internet.reactor' not in sys.modules\n"
        "txaio.use_asyncio()\n"
        "reader = FrameReader(None, print, message_limit=9, frame_limit=9)\n"
        "reader.receive(b'\\x01\\x81\\0\\0\\0\\0a\\x80\\x81\\0\\0\\0\\0b')\n"
        "assert 'twisted.internet.reactor' not in sys.modules\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )

    assert result.stdout == "ab\n"


@pytest.mark.e2e
def test_first_close_frame_imports_nothing_for_the_colours_of_a_log() -> None:
    # 33 ms, in which no other client of the process was served.
    code = (
        "import sys\n"
        "from djserve.protocols.websocket.codec import Parser\n"
        "from autobahn.websocket import protocol\n"
        "colour = protocol.hltype\n"
        "Parser()\n"
        "print('click.core' in sys.modules, protocol.hltype is colour)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
    )
    assert done.stdout.split() == ["False", "True"], done.stderr
