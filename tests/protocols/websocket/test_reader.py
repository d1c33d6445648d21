from __future__ import annotations

import itertools
import os
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from djserve.protocols.websocket.codec import Deflate, create_deflate
from djserve.protocols.websocket.deflate import DeflateAgreement
from djserve.protocols.websocket.masking import NATIVE_FROM, SharedBuffer
from djserve.protocols.websocket.reader import FrameReader
from djserve.protocols.websocket.turns import FRAME_COST, RUN_COST, TURN_COST, Turns

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT = 1000
KEY = b"\x01\x80\xfe\x7f"
DEFLATE = create_deflate(DeflateAgreement(12, 12, b""), LIMIT)

MANY = min(300, 6 * settings().max_examples)
"""Examples for what only a rare combination of frames and cuts would show."""


class Sink:
    """A connection's part: notes what it is told, and stops at the end as one does."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.reader: FrameReader | None = None

    def deliver(self, data: str | bytes) -> None:
        self.events.append(data)

    def write(self, data: bytes) -> None:
        self.events.append(("write", data))

    def ping_received(self, payload: bytes) -> None:
        self.events.append(("ping", payload))

    def close_received(self, code: int, reason: str) -> None:
        self.events.append(("close", code, reason))
        self._reader.stop()

    def close_answered(self) -> None:
        self.events.append("answered")
        self._reader.stop()

    def failed(self, code: int, reason: str) -> None:
        self.events.append(("failed", code))
        self._reader.discard()

    def turn_spent(self, *, is_heavy: bool) -> None:
        self.events.append("heavy" if is_heavy else "light")

    @property
    def _reader(self) -> FrameReader:
        assert self.reader is not None
        return self.reader


def open_reader(
    limit: int = LIMIT,
    deflate: Deflate | None = None,
    kind: type[Sink] = Sink,
    **options: Any,
) -> tuple[FrameReader, Sink]:
    sink = kind()
    sink.reader = FrameReader(
        sink,
        sink.deliver,
        message_limit=limit,
        frame_limit=limit,
        deflate=deflate,
        **options,
    )
    return sink.reader, sink


def receive(*chunks: bytes, deflate: Deflate | None = None) -> list[Any]:
    reader, sink = open_reader(deflate=deflate)
    for chunk in chunks:
        reader.receive(chunk)
    return sink.events


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0
) -> bytes:
    """Write a frame as a client does, with no rule in the way."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    masked = bytes(byte ^ KEY[i % 4] for i, byte in enumerate(payload))
    return bytes((fin << 7 | rsv << 4 | opcode,)) + length + KEY + masked


def deflated(payload: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -12)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 999, 1000])
def test_whole_messages_are_delivered_with_their_type(size: int) -> None:
    text = "é" * (size // 2)
    data = frame(1, text.encode()) + frame(2, bytes(size))

    assert receive(data) == [text, bytes(size)]


def test_long_length_is_read() -> None:
    reader, sink = open_reader(limit=1 << 20)
    payload = os.urandom(70000)

    reader.receive(frame(2, payload))

    assert sink.events == [payload]


def test_fragments_are_joined_and_pings_pass_between_them() -> None:
    data = frame(1, b"a\xc3", fin=False) + frame(9, b"p") + frame(0, b"\xa9b")

    assert receive(data) == [("ping", b"p"), "aéb"]


def test_message_after_fragments_takes_the_lane_again() -> None:
    data = frame(2, b"a", fin=False) + frame(0, b"b") + frame(1, b"c")

    assert receive(data) == [b"ab", "c"]


def test_pong_is_taken_silently() -> None:
    assert receive(frame(10, b"x") + frame(1, b"a")) == ["a"]


def test_close_is_answered_with_its_code_and_reason() -> None:
    data = frame(8, b"\x03\xe9bye") + frame(1, b"too late")

    assert receive(data) == [
        ("write", b"\x88\x05\x03\xe9bye"),
        ("close", 1001, "bye"),
    ]


def test_close_without_code_is_1005() -> None:
    assert receive(frame(8)) == [("write", b"\x88\x00"), ("close", 1005, "")]


VIOLATIONS = {
    "unmasked frame": b"\x81\x01a",
    "reserved bit": frame(1, b"a", rsv=1),
    "compressed without agreement": frame(1, b"a", rsv=4),
    "reserved data opcode": frame(3, b"a"),
    "reserved control opcode": frame(11, b"a"),
    "fragmented control frame": frame(9, b"a", fin=False),
    "long control frame": frame(9, bytes(126)),
    "continuation of nothing": frame(0, b"a"),
    "message within a message": frame(1, b"a", fin=False) + frame(1, b"b"),
    "two-byte length for a short payload": b"\x81\xfe\x00\x01" + KEY + b"a",
    "eight-byte length for a short payload": b"\x81\xff"
    + bytes(7)
    + b"\1"
    + KEY
    + b"a",
    "length with the highest bit": b"\x82\xff\x80" + bytes(7) + KEY,
    "close with one byte": frame(8, b"\x03"),
    "close code 999": frame(8, b"\x03\xe7"),
    "close code 1004": frame(8, b"\x03\xec"),
    "close code 1005": frame(8, b"\x03\xed"),
    "close code 1006": frame(8, b"\x03\xee"),
    "close code 1015": frame(8, b"\x03\xf7"),
    "close code 2999": frame(8, b"\x0b\xb7"),
    "close code 5000": frame(8, b"\x13\x88"),
}


@pytest.mark.parametrize("data", VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_protocol_violation_fails_with_1002(data: bytes) -> None:
    assert receive(data + frame(1, b"after"))[0] == ("failed", 1002)
    assert "after" not in receive(data + frame(1, b"after"))


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1013, 3000, 4999])
def test_close_codes_of_the_registry_are_taken(code: int) -> None:
    assert receive(frame(8, code.to_bytes(2, "big")))[-1] == ("close", code, "")


@pytest.mark.parametrize(
    "data",
    [
        frame(1, b"\xff"),
        frame(1, b"\xc3"),
        frame(1, b"\xed\xa0\x80"),
        frame(1, b"a", fin=False) + frame(0, b"\xf4\x90\x80\x80"),
        frame(1, b"\xc3", fin=False) + frame(0),
        frame(8, b"\x03\xe8\xff"),
    ],
    ids=[
        "invalid",
        "cut",
        "surrogate",
        "beyond Unicode",
        "cut over fragments",
        "close",
    ],
)
def test_bad_utf8_fails_with_1007(data: bytes) -> None:
    assert receive(data + frame(1, b"after"))[0] == ("failed", 1007)
    assert "after" not in receive(data + frame(1, b"after"))


def test_bad_close_frame_is_the_last_one_expected() -> None:
    assert receive(frame(8, b"\x03\xec")) == [("failed", 1002), "answered"]


def test_bad_utf8_fails_before_its_frame_is_complete() -> None:
    assert receive(frame(1, b"\xff" + bytes(500))[:20]) == [("failed", 1007)]


@pytest.mark.parametrize(
    "data",
    [
        frame(1, b"a" * (LIMIT + 1)),
        frame(2, bytes(600), fin=False) + frame(0, bytes(401)),
        frame(2, b"", fin=False) + b"\x80\xff\x7f" + b"\xff" * 7 + KEY,
    ],
    ids=["frame", "fragments", "length of 2**63 - 1"],
)
def test_too_large_message_fails_with_1009(data: bytes) -> None:
    assert receive(data) == [("failed", 1009)]


def test_too_large_message_fails_at_its_head() -> None:
    assert receive(frame(2, bytes(LIMIT + 1))[:8]) == [("failed", 1009)]


def test_after_a_failure_the_answer_is_found_behind_the_bad_frame() -> None:
    data = frame(2, bytes(LIMIT + 1)) + frame(1, b"skipped") + frame(8)

    assert receive(data[:700], data[700:]) == [("failed", 1009), "answered"]


def test_discarding_skips_up_to_the_close_frame() -> None:
    reader, sink = open_reader()
    reader.receive(frame(2, b"a", fin=False) + frame(0, b"abc")[:5])
    reader.discard()

    reader.receive(frame(0, b"abc")[5:] + frame(1, b"x") + frame(8) + frame(1, b"y"))

    assert sink.events == ["answered"]


class PausingSink(Sink):
    """An application that takes one message at a time."""

    def deliver(self, data: str | bytes) -> None:
        super().deliver(data)
        self._reader.pause()


class StoppingSink(Sink):
    """A connection that ends with the first message."""

    def deliver(self, data: str | bytes) -> None:
        super().deliver(data)
        self._reader.stop()


def test_pause_keeps_what_has_arrived_for_resume() -> None:
    reader, sink = open_reader(kind=PausingSink)
    reader.receive(frame(1, b"a") + frame(1, b"b") + frame(1, b"c")[:4])
    reader.receive(frame(1, b"c")[4:])
    assert sink.events == ["a"]

    reader.resume()
    reader.resume()

    assert sink.events == ["a", "b", "c"]


def test_stopping_within_a_delivery_delivers_nothing_more() -> None:
    reader, sink = open_reader(kind=StoppingSink)
    reader.receive(frame(1, b"a") + frame(1, b"b"))
    reader.receive(frame(1, b"c"))

    assert sink.events == ["a"]


def test_many_frames_in_one_chunk_are_not_copied_for_each() -> None:
    """With a copy of the rest for each frame this would move 20 GB."""
    ping = frame(9)
    reader, sink = open_reader(small_frame_limit=80_000)

    reader.receive(ping * 80_000)

    assert len(sink.events) == 80_000


def test_compressed_message_is_inflated() -> None:
    data = frame(1, deflated(b"ab" * 300), rsv=4)

    assert receive(data, deflate=DEFLATE) == ["ab" * 300]


def test_compressed_fragments_are_inflated_as_one() -> None:
    compressed = deflated(b"ab" * 300)
    data = frame(2, compressed[:4], fin=False, rsv=4) + frame(0, compressed[4:])

    assert receive(data + data, deflate=DEFLATE) == [b"ab" * 300] * 2


def test_compressed_message_just_within_the_limit_is_taken() -> None:
    data = frame(2, deflated(bytes(LIMIT)), rsv=4)

    assert receive(data, deflate=DEFLATE) == [bytes(LIMIT)]


@pytest.mark.parametrize("cut", [1, 500, 1008])
def test_message_that_grew_when_it_was_deflated_is_taken(cut: int) -> None:
    payload = os.urandom(LIMIT)
    data = frame(2, deflated(payload), rsv=4)
    assert len(deflated(payload)) > LIMIT

    assert receive(data[:cut], data[cut:], deflate=DEFLATE) == [payload]


def test_compressed_frame_far_over_the_limit_fails_at_its_head() -> None:
    data = frame(2, bytes(LIMIT * 2), rsv=4)

    assert receive(data[:8], deflate=DEFLATE) == [("failed", 1009)]


@pytest.mark.parametrize("payload", [b"", b"ab"], ids=["empty", "tiny"])
def test_many_fragments_cost_no_more_memory_than_their_bytes(payload: bytes) -> None:
    limit = 1 << 20
    reader, sink = open_reader(limit)
    reader.receive(frame(2, fin=False))
    chunk = frame(0, payload, fin=False) * 1000
    tracemalloc.start()

    for _ in range(20):
        reader.receive(chunk)
        reader.refill()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert sink.events == []
    assert kept < 2 * 20_000 * len(payload) + 50_000


def test_compressed_message_over_the_limit_fails_with_1009() -> None:
    data = frame(2, deflated(bytes(LIMIT + 1)), rsv=4)

    assert receive(data, deflate=DEFLATE) == [("failed", 1009)]


def test_inflated_size_counts_over_fragments() -> None:
    compressed = deflated(bytes(LIMIT * 3))
    half = len(compressed) // 2
    data = frame(2, compressed[:half], fin=False, rsv=4) + frame(0, compressed[half:])

    assert receive(data, deflate=DEFLATE) == [("failed", 1009)]


def test_corrupt_compressed_message_fails_with_1007() -> None:
    assert receive(frame(2, b"\xff" * 9, rsv=4), deflate=DEFLATE) == [("failed", 1007)]


def test_inflated_message_may_have_the_limit_and_no_byte_more() -> None:
    data = frame(2, deflated(bytes(LIMIT + 1)), rsv=4)

    assert receive(data, deflate=DEFLATE) == [("failed", 1009)]
    assert receive(frame(2, deflated(bytes(LIMIT)), rsv=4), deflate=DEFLATE) == [
        bytes(LIMIT)
    ]


@pytest.mark.parametrize(
    "block", ["5a1256", "0070178fe87a7a7a"], ids=["huffman", "stored"]
)
def test_compressed_message_within_an_unfinished_block_fails(block: str) -> None:
    data = frame(2, bytes.fromhex(block), rsv=4)

    assert receive(data, deflate=DEFLATE) == [("failed", 1007)]


def test_last_block_may_be_followed_by_an_empty_one_only() -> None:
    # RFC 7692 section 7.2.3.4, and what zlib would keep for ever.
    hello = bytes.fromhex("f348cdc9c90700")
    whole = frame(1, hello + b"\0", rsv=4)
    endless = frame(1, hello, fin=False, rsv=4) + frame(0, bytes(50), fin=False)

    assert receive(whole, deflate=DEFLATE) == ["Hello"]
    assert receive(endless, deflate=DEFLATE) == [("failed", 1007)]


@pytest.mark.parametrize("rsv", [1, 2, 5, 6])
def test_other_reserved_bits_fail_beside_compression(rsv: int) -> None:
    assert receive(frame(1, b"a", rsv=rsv), deflate=DEFLATE) == [("failed", 1002)]


def test_compression_bomb_costs_bounded_memory() -> None:
    limit = 1 << 20
    deflate = create_deflate(DeflateAgreement(12, 12, b""), limit)
    bomb = frame(2, deflated(bytes(100 << 20)), rsv=4)
    reader, sink = open_reader(limit, deflate)
    tracemalloc.start()

    reader.receive(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert sink.events == [("failed", 1009)]
    assert peak < 6 * limit


def test_flood_of_small_frames_outside_the_lane_fails_with_1008() -> None:
    reader, sink = open_reader()
    reader.receive(frame(2, fin=False) + frame(0, fin=False) * 9_999)
    assert sink.events == []

    reader.receive(frame(0, fin=False))

    assert sink.events == [("failed", 1008)]


def test_flood_that_goes_on_after_our_close_is_not_read() -> None:
    reader, sink = open_reader()

    reader.receive(frame(2, fin=False) + frame(0, fin=False) * 40_000)
    reader.receive(frame(0, fin=False))

    assert sink.events == [("failed", 1008), "answered"]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frame(2, fin=False) + frame(0, fin=False) * 9, id="empty"),
        pytest.param(frame(1, b"a", fin=False) + frame(0, b"b", fin=False) * 9, id="1"),
        pytest.param(frame(9) * 10, id="ping"),
        pytest.param(frame(10, b"x" * 125) * 10, id="pong"),
    ],
)
def test_frames_that_cost_more_than_they_carry_are_limited(data: bytes) -> None:
    reader, sink = open_reader(small_frame_limit=10)
    reader.receive(data)
    assert ("failed", 1008) not in sink.events

    reader.receive(frame(9) if data[0] & 8 else frame(0, fin=False))

    assert sink.events[-1] == ("failed", 1008)


@pytest.mark.parametrize("size", [2, 64, 256])
def test_message_in_any_number_of_larger_fragments_is_delivered(size: int) -> None:
    count = 100_000 // size
    part = bytes(size)
    reader, sink = open_reader(1 << 20, small_frame_limit=10)

    reader.receive(frame(2, fin=False) + frame(0, part, fin=False) * count + frame(0))

    assert sink.events == [part * count]


def test_small_frames_are_allowed_again_after_a_while() -> None:
    reader, sink = open_reader()

    for _ in range(3):
        reader.receive(frame(10) * 9_999)
        reader.refill()

    assert sink.events == []


# What is charged to a turn. Nothing renews it here: the loop is never run.


class IdleLoop:
    """A loop that does nothing of what it is asked."""

    def call_soon(self, callback: Any) -> None: ...
    def call_later(self, delay: float, callback: Any) -> None: ...
    def time(self) -> float:
        return 0.0


def open_charged(
    deflate: Deflate | None = None, limit: int = LIMIT, **options: Any
) -> tuple[FrameReader, Sink, Turns]:
    turns = Turns(IdleLoop())
    reader, sink = open_reader(limit, deflate, turns=turns, **options)
    return reader, sink, turns


def test_burst_of_compressed_messages_is_read_a_turn_at_a_time() -> None:
    size = 100_000
    deflate = create_deflate(DeflateAgreement(12, 12, b""), size)
    reader, sink, turns = open_charged(deflate, size)

    reader.receive(frame(2, deflated(bytes(size)), rsv=4) * 7)
    assert sink.events == [bytes(size)] * 3 + ["heavy"]

    turns.left = TURN_COST
    reader.proceed()
    assert sink.events == ([bytes(size)] * 3 + ["heavy"]) * 2

    turns.left = TURN_COST
    reader.proceed()
    assert sink.events[8:] == [bytes(size)]


@pytest.mark.parametrize("data", [frame(0, fin=False), frame(0, b"ab", fin=False)])
def test_fragments_are_read_a_turn_at_a_time(data: bytes) -> None:
    reader, sink, turns = open_charged(limit=2 * LIMIT)
    most = TURN_COST // FRAME_COST

    reader.receive(frame(2, fin=False) + data * (most - 1))
    assert sink.events == []

    reader.receive(data + frame(0))
    assert sink.events == ["heavy"]

    turns.left = TURN_COST
    reader.proceed()
    assert len(sink.events[1]) in (0, 2 * most)


def test_part_of_a_frame_is_charged_too() -> None:
    reader, sink, turns = open_charged()
    for byte in frame(2, bytes(400)):
        reader.receive(bytes((byte,)))

    assert turns.left < TURN_COST - 390 * FRAME_COST
    assert sink.events == [bytes(400)]


def test_whole_plain_messages_are_read_in_any_turn() -> None:
    reader, sink, turns = open_charged()
    turns.left = 0

    reader.receive(frame(1, b"a") + frame(2, b"b"))

    assert sink.events == ["a", b"b"]
    assert turns.left == 0


def test_peer_that_sent_little_waits_as_one_that_did() -> None:
    reader, sink, turns = open_charged()
    turns.left = 0

    reader.receive(frame(9))
    reader.receive(frame(9))
    assert sink.events == ["light"]

    turns.left = 1
    reader.proceed()
    assert sink.events == ["light", ("ping", b""), "light"]


def test_full_queues_are_handed_on_a_turn_at_a_time() -> None:
    class Queue(Sink):
        def deliver(self, data: str | bytes) -> None:
            super().deliver(data)
            self._reader.pause()

    turns = Turns(IdleLoop())
    reader, sink = open_reader(kind=Queue, turns=turns)
    reader.receive(frame(2, b"x") * 1000)
    while "heavy" not in sink.events:
        reader.resume()

    assert len(sink.events) == TURN_COST // RUN_COST + 1

    turns.left = TURN_COST
    reader.proceed()
    assert sink.events[-1] == b"x"


def test_peer_is_not_heavy_for_what_it_sent_a_while_ago() -> None:
    reader, sink, _ = open_charged()
    reader.receive(frame(10) * (TURN_COST // FRAME_COST))
    reader.refill()

    reader.receive(frame(10))

    assert sink.events == ["light"]


def test_what_waits_for_a_turn_is_dropped_with_the_connection() -> None:
    reader, sink, turns = open_charged()
    turns.left = 0
    reader.receive(frame(9))
    reader.stop()

    turns.left = TURN_COST
    reader.proceed()

    assert sink.events == ["light"]


# The lane against Autobahn on its own, on any stream of frames cut anywhere.


class WithoutLane(FrameReader):
    """Autobahn alone, given each frame's bytes as the reader does."""

    __slots__ = ()

    def _read_lane(self) -> None:
        """Leave all to Autobahn."""

    def _read_whole_frames(self) -> bool:
        return False


def frames_of_any_kind() -> st.SearchStrategy[bytes]:
    payloads = st.one_of(
        st.binary(max_size=12),
        st.text(max_size=6).map(str.encode),
        st.sampled_from([bytes(125), bytes(126), bytes(LIMIT), bytes(LIMIT + 1)]),
        st.sampled_from(["é" * 300, "\N{SNOWMAN}" * 200]).map(str.encode),
        st.sampled_from([b"a" * 600 + b"\xff", b"a" * 600 + b"\xc3"]),
    )
    valid = st.builds(frame, st.sampled_from([1, 2]), payloads)
    any_frame = st.builds(
        lambda opcode, payload, fin, rsv: frame(opcode, payload, fin=fin, rsv=rsv),
        st.sampled_from([0, 1, 2, 1, 2, 8, 9, 10, 3, 11]),
        payloads,
        st.booleans(),
        st.sampled_from([0, 0, 0, 0, 4, 1]),
    )
    fragmented = st.builds(
        lambda opcode, first, second: (
            frame(opcode, first, fin=False) + frame(0, second)
        ),
        st.sampled_from([1, 2]),
        payloads,
        payloads,
    )
    compressed = st.builds(
        lambda opcode, payload: frame(opcode, deflated(payload), rsv=4),
        st.sampled_from([1, 2]),
        payloads,
    )
    malformed = st.sampled_from(list(VIOLATIONS.values()))
    return st.one_of(valid, valid, fragmented, compressed, any_frame, malformed)


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[i:j] for i, j in itertools.pairwise(places)]


def run(kind: type[FrameReader], chunks: list[bytes], deflate: bool) -> list[Any]:
    sink = Sink()
    sink.reader = kind(
        sink,
        sink.deliver,
        message_limit=LIMIT,
        frame_limit=LIMIT,
        deflate=DEFLATE if deflate else None,
    )
    for chunk in chunks:
        sink.reader.receive(chunk)
    return sink.events


@settings(max_examples=MANY, deadline=None)
@given(
    st.lists(frames_of_any_kind(), max_size=6),
    st.lists(st.integers(min_value=0, max_value=5000), max_size=5),
    st.booleans(),
)
def test_lane_and_autobahn_agree(
    frames: list[bytes], cuts: list[int], deflate: bool
) -> None:
    data = b"".join(frames)

    assert run(FrameReader, split(data, cuts), deflate) == run(
        WithoutLane, [data], deflate
    )


def receive_from_buffer(reader: FrameReader, chunk: bytes) -> None:
    """Have a chunk read out of a buffer, which other connections use before and after.

    As a transport does: a connection that is paused or that has ended reads nothing.
    """
    BUFFER.view[: len(chunk)] = chunk
    reader.receive_from(BUFFER, len(chunk))
    BUFFER.view[: len(chunk) + 9] = b"\xaa" * (len(chunk) + 9)


BUFFER = SharedBuffer()


class FromBuffer(FrameReader):
    """Gets all chunks in a buffer."""

    __slots__ = ()
    _is_inner = False

    def receive(self, data: bytes) -> None:
        if FromBuffer._is_inner:
            super().receive(data)
            return
        FromBuffer._is_inner = True
        try:
            receive_from_buffer(self, data)
        finally:
            FromBuffer._is_inner = False


@settings(max_examples=MANY, deadline=None)
@given(
    st.lists(frames_of_any_kind(), max_size=6),
    st.lists(st.integers(min_value=0, max_value=5000), max_size=5),
    st.booleans(),
)
def test_buffer_and_autobahn_agree(
    frames: list[bytes], cuts: list[int], deflate: bool
) -> None:
    data = b"".join(frames)

    assert run(FromBuffer, split(data, cuts), deflate) == run(
        WithoutLane, [data], deflate
    )


@pytest.mark.parametrize("opcode", [1, 2])
@pytest.mark.parametrize("size", [447, 448, 1000, 65535, 65536, 200_000])
def test_long_message_is_taken_out_of_the_buffer(
    opcode: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = b"abcd" * (size // 4) + b"abc"[: size % 4]
    reader, sink = open_reader(limit=1 << 20)
    copies: list[bytes] = []
    receive = FrameReader.receive

    def copying(self: FrameReader, data: bytes) -> None:
        copies.append(data)
        receive(self, data)

    monkeypatch.setattr(FrameReader, "receive", copying)

    receive_from_buffer(reader, frame(opcode, payload))

    assert sink.events == [payload.decode() if opcode == 1 else payload]
    assert bool(copies) is (size < NATIVE_FROM)


def test_pause_keeps_what_lies_in_the_buffer_for_resume() -> None:
    reader, sink = open_reader(kind=PausingSink)
    long = [name * 500 for name in "abc"]
    data = b"".join(frame(1, text.encode()) for text in long)

    receive_from_buffer(reader, data[:-4])
    receive_from_buffer(reader, data[-4:])
    assert sink.events == long[:1]
    reader.resume()
    reader.resume()

    assert sink.events == long


def test_stopping_within_a_delivery_drops_what_lies_in_the_buffer() -> None:
    reader, sink = open_reader(kind=StoppingSink)

    receive_from_buffer(reader, frame(1, b"a" * 500) + frame(1, b"b" * 500))
    receive_from_buffer(reader, frame(1, b"c" * 500))

    assert sink.events == ["a" * 500]


def test_discarding_finds_the_close_frame_in_the_buffer() -> None:
    reader, sink = open_reader()
    reader.discard()

    receive_from_buffer(reader, frame(2, bytes(500)) + frame(8) + frame(1, b"y"))

    assert sink.events == ["answered"]


@settings(max_examples=MANY, deadline=None)
@given(st.binary(max_size=60), st.lists(st.integers(min_value=0, max_value=60)))
def test_garbage_fails_the_same_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    assert run(FrameReader, split(data, cuts), True) == run(WithoutLane, [data], True)


def test_nothing_of_a_connection_is_kept_between_messages() -> None:
    reader, _ = open_reader(deflate=DEFLATE)
    reader.receive(frame(1, deflated(b"ab"), rsv=4))

    assert reader._parser is None
    assert DEFLATE._decompressor is None


def test_parser_of_a_failed_connection_serves_no_other() -> None:
    assert receive(frame(2, b"a", fin=False) + b"\x81\x01a")[0] == ("failed", 1002)
    assert receive(frame(2, b"b", fin=False) + frame(0, b"c")) == [b"bc"]
