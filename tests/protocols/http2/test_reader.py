"""The cases of RFC 9113 split at random byte boundaries, and the bounds of a reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from h2.errors import ErrorCodes
from hypothesis import given
from hypothesis import strategies as st

from djserve.protocols.http2 import frames
from djserve.protocols.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    SETTINGS,
)
from tests.protocols.http2.cases import CASES, Case

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.protocols.http2.conftest import Request, Wire


class Outcome:
    """One connection's life with a client that sends some bytes and a last request."""

    def __init__(
        self, open_wire: type[Wire], case: Case, cut: Callable[[bytes], list[bytes]]
    ) -> None:
        self.wire = open_wire(
            http2_stream_window_size=20000, on_start=self.start, http2_ping_interval=0
        )
        if case.is_closed:
            self.wire.feed(self.wire.headers(1))
        self.wire.feed(*cut(case.data(self.wire)))
        self.fault = self.find_fault()
        if not self.wire.goaways:
            self.wire.feed(self.wire.headers(101))
            assert self.wire.responses[101].status == 200

    @staticmethod
    def start(request: Any) -> None:
        """Answer, once all has come; but not where the test wants the stream open."""
        if request.head.raw_path == b"/wait":
            return
        if request.is_complete:
            request.answer()
        else:
            eof_received = request.eof_received

            def answer() -> None:
                eof_received()
                request.answer()

            request.eof_received = answer

    def find_fault(self) -> tuple[str, int]:
        wire = self.wire
        if wire.goaways:
            assert wire.is_closed()
            return ("connection", wire.goaways[0][1])
        for code in wire.resets.values():
            return ("stream", code)
        statuses = [response.status for response in wire.responses.values()]
        return ("status", statuses[0] if statuses else 200)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_client(case: Case, open_wire: type[Wire]) -> None:
    outcome = Outcome(open_wire, case, lambda data: [data])

    assert outcome.fault == case.expected


@given(case=st.sampled_from(CASES), cuts=st.lists(st.integers(0, 2000), max_size=8))
def test_client_in_pieces(
    case: Case,
    cuts: list[int],
    open_wire: type[Wire],
    split_bytes: Callable[[bytes, Iterable[int]], list[bytes]],
) -> None:
    outcome = Outcome(open_wire, case, lambda data: split_bytes(data, cuts))

    assert outcome.fault == case.expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_client_byte_by_byte(case: Case, open_wire: type[Wire]) -> None:
    outcome = Outcome(
        open_wire,
        case,
        lambda data: (
            [data[at : at + 1] for at in range(min(len(data), 3000))]
            + [data[3000:]] * (len(data) > 3000)
        ),
    )

    assert outcome.fault == case.expected


# Section 3.4: the opening.


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        frames.PREFACE[:-1] + b"x",
        frames.PREFACE + frames.pack_header(8, PING, 0, 0) + b"12345678",
        frames.PREFACE + frames.pack_header(0, SETTINGS, ACK, 0),
    ],
    ids=[
        "no preface",
        "nearly the preface",
        "no settings",
        "settings' acknowledgement",
    ],
)
def test_wrong_opening_is_a_connection_error(
    open_wire: type[Wire], data: bytes
) -> None:
    wire = open_wire(greet=False).feed(data)

    assert wire.last_code == ErrorCodes.PROTOCOL_ERROR
    assert wire.is_closed()


def test_settings_are_acknowledged(open_wire: type[Wire]) -> None:
    wire = open_wire(greet=False)
    wire.feed(frames.PREFACE + wire.settings(4, 1000))

    assert wire.log[-1] == (SETTINGS, ACK, 0, b"")


def test_content_is_sent_in_frames_of_the_clients_size(open_wire: type[Wire]) -> None:
    wire = open_wire(client_settings=open_wire.setting(5, 20000))
    wire.feed(wire.headers(1))
    wire.requests[0].answer(b"x" * 50000)
    wire.turn()

    sizes = [len(frame.payload) for frame in wire.log if frame.kind == DATA]
    assert sizes == [20000, 20000, 10000]


def test_long_response_head_is_continued(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1))
    stream = wire.requests[0].stream
    wire._note_response = lambda frame: None  # type: ignore[method-assign]
    stream.send_response(200, [(b"x", b"y" * 40000)], b"", more=False)
    wire.turn()

    assert wire.kinds() == [HEADERS, CONTINUATION, CONTINUATION]
    assert [frame.flags for frame in wire.log] == [END_STREAM, 0, END_HEADERS]
    block = b"".join(frame.payload for frame in wire.log)
    assert (b"x", b"y" * 40000) in list(wire.decoder.decode(block, raw=True))


CALM = ErrorCodes.ENHANCE_YOUR_CALM


def answer(request: Request) -> None:
    request.answer()


@pytest.mark.parametrize("is_split", [False, True], ids=["at once", "one by one"])
def test_rapid_resets_end_the_connection(open_wire: type[Wire], is_split: bool) -> None:
    # CVE-2023-44487.
    wire = open_wire(http2_reset_limit=50)
    pairs = [
        wire.headers(stream_id) + wire.reset(stream_id)
        for stream_id in range(1, 400, 2)
    ]
    wire.feed(*(pairs if is_split else [b"".join(pairs)]))

    assert wire.last_code == CALM
    assert len(wire.requests) == 51
    assert all(request.is_lost for request in wire.requests)
    assert not any(request.is_started for request in wire.requests) or is_split


@pytest.mark.parametrize(
    "fault",
    [
        lambda wire, stream_id: wire.window(stream_id, 0),
        lambda wire, stream_id: wire.window(stream_id, 2**31 - 1),
        lambda wire, stream_id: wire.data(stream_id, b"x"),
        lambda wire, stream_id: wire.frame(frames.PRIORITY, 0, stream_id, b"x"),
        lambda wire, stream_id: wire.frame(
            frames.HEADERS,
            frames.END_HEADERS | frames.END_STREAM,
            stream_id,
            wire.block([(b"x", b"y")]),
        ),
    ],
    ids=["nothing", "overflow", "data after end", "wrong length", "headers after end"],
)
def test_resets_that_the_server_is_made_to_send_count_too(
    open_wire: type[Wire], fault: object
) -> None:
    # CVE-2025-8671.
    assert callable(fault)
    wire = open_wire(http2_reset_limit=50)
    for stream_id in range(1, 400, 2):
        wire.feed(wire.headers(stream_id) + fault(wire, stream_id))

    assert wire.last_code == CALM
    assert len(wire.resets) == 50
    assert all(request.is_lost for request in wire.requests)


def test_resets_are_forgiven_with_time(open_wire: type[Wire]) -> None:
    wire = open_wire(http2_reset_limit=10)
    wire.tick(0.0)
    for round in range(1, 6):
        for stream_id in range(20 * round + 1, 20 * round + 21, 2):
            wire.feed(wire.headers(stream_id), wire.reset(stream_id))
        wire.tick(round * 10.0)

    assert not wire.goaways


FLOODS = {
    "settings": lambda wire: wire.settings(4, 65535),
    "empty settings": lambda wire: wire.frame(frames.SETTINGS, 0, 0),
    "ping": lambda wire: wire.frame(frames.PING, 0, 0, b"12345678"),
    "ping answers": lambda wire: wire.frame(frames.PING, frames.ACK, 0, b"12345678"),
    "priority": lambda wire: wire.frame(frames.PRIORITY, 0, 1, b"\0\0\0\0\x0f"),
    "priority update": lambda wire: wire.frame(
        frames.PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=0"
    ),
    "window update": lambda wire: wire.window(0, 1),
    "stream's window update": lambda wire: wire.window(1, 1),
    "ended stream's window update": lambda wire: wire.window(3, 1),
    "empty data": lambda wire: wire.data(1),
    "unknown frames": lambda wire: wire.frame(0x42, 0, 0),
    "goaway": lambda wire: frames.encode_goaway(0, 0),
}


@pytest.mark.parametrize("name", FLOODS)
def test_flood_of_control_frames_ends_the_connection(
    open_wire: type[Wire], name: str
) -> None:
    wire = open_wire(http2_control_frame_limit=100)
    wire.feed(wire.headers(1, end=False), wire.headers(3))
    wire.requests[1].answer()
    wire.turn()
    for _ in range(95):
        wire.feed(FLOODS[name](wire))
    assert not wire.goaways

    wire.feed(FLOODS[name](wire) * 20)
    assert wire.last_code == CALM
    assert wire.refused[-1].setting == "HTTP2_CONTROL_FRAME_LIMIT"
    assert wire.is_closed()


def test_padding_alone_counts_as_content(open_wire: type[Wire]) -> None:
    wire = open_wire(http2_control_frame_limit=16, http2_stream_window_size=1024)
    wire.feed(wire.headers(1, end=False))
    padding = wire.frame(frames.DATA, frames.PADDED, 1, b"\xff" + b"\0" * 255)
    wire.feed(padding * 5)

    assert wire.resets == {1: ErrorCodes.FLOW_CONTROL_ERROR}


def test_window_updates_that_responses_call_for_are_free(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(http2_control_frame_limit=16)
    wire.feed(wire.headers(1))
    wire.requests[0].answer(b"x" * 10_000_000)
    for _ in range(600):
        wire.feed(wire.window(0, 16384), wire.window(1, 16384))

    assert not wire.goaways
    assert len(wire.responses[1].content) > 9_000_000


def test_dribbled_windows_are_not(open_wire: type[Wire]) -> None:
    # CVE-2019-9511.
    wire = open_wire(http2_control_frame_limit=100)
    wire.feed(wire.headers(1))
    wire.requests[0].answer(b"x" * 100_000)
    wire.turn()
    for _ in range(200):
        wire.feed(wire.window(0, 1) + wire.window(1, 1))

    assert wire.last_code == CALM


def test_many_requests_pay_for_their_control_frames(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=answer, http2_control_frame_limit=16)
    for stream_id in range(1, 400, 2):
        wire.feed(wire.window(0, 1) + wire.headers(stream_id) + wire.window(0, 1))

    assert not wire.goaways


def test_continuation_flood_ends_the_connection(open_wire: type[Wire]) -> None:
    # CVE-2024-27316 and its kind.
    wire = open_wire(http2_fragment_limit=4)
    wire.feed(wire.frame(frames.HEADERS, frames.END_STREAM, 1, b"\x82"))
    wire.feed(wire.frame(frames.CONTINUATION, 0, 1, b"") * 4)
    assert not wire.goaways

    wire.feed(wire.frame(frames.CONTINUATION, 0, 1, b""))
    assert wire.last_code == CALM
    assert wire.refused[-1].setting == "HTTP2_FRAGMENT_LIMIT"


def test_block_in_parts_is_bounded_in_size(open_wire: type[Wire]) -> None:
    wire = open_wire(header_size_limit=20000)
    wire.feed(wire.frame(frames.HEADERS, 0, 1, b"x" * 10000))
    wire.feed(wire.frame(frames.CONTINUATION, 0, 1, b"x" * 10000))
    assert not wire.goaways

    wire.feed(wire.frame(frames.CONTINUATION, 0, 1, b"x" * 10000))
    assert wire.last_code == CALM
    assert wire.refused[-1].setting == "HEADER_SIZE_LIMIT"


def test_block_that_is_never_completed_has_a_deadline(open_wire: type[Wire]) -> None:
    wire = open_wire(header_timeout=5)
    wire.feed(wire.headers(1, end=False))
    wire.feed(wire.frame(frames.HEADERS, 0, 3, b"\x82")).tick(0.0, 4.9)
    assert not wire.goaways

    wire.tick(5.0)
    assert wire.last_code == CALM
    assert wire.refused[-1].setting == "HEADER_TIMEOUT"


def test_frame_that_is_never_completed_has_a_deadline(open_wire: type[Wire]) -> None:
    wire = open_wire(header_timeout=5)
    wire.feed(wire.headers(1, end=False), b"\0\0\1").tick(0.0, 5.0)

    assert wire.last_code == CALM


def test_header_bomb_ends_the_connection(open_wire: type[Wire]) -> None:
    # CVE-2016-6581: one long field in the table, named by a byte each time.
    wire = open_wire(header_size_limit=16384)
    long_field = b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000
    wire.feed(
        wire.frame(frames.HEADERS, frames.END_HEADERS, 1, long_field + b"\xbe" * 1000)
    )

    assert wire.last_code == CALM
    assert wire.refused[-1].setting == "HEADER_SIZE_LIMIT"
    assert not wire.requests


def test_list_beyond_the_limit_gets_431(open_wire: type[Wire]) -> None:
    wire = open_wire(header_size_limit=1000)
    wire.feed(wire.headers(1, (b"x", b"y" * 900)), wire.headers(3))

    assert wire.responses[1].status == 431
    assert wire.refused[-1].setting == "HEADER_SIZE_LIMIT"
    assert len(wire.requests) == 1


def test_too_many_fields_get_431(open_wire: type[Wire]) -> None:
    wire = open_wire(header_count_limit=3).feed(
        open_wire().headers(1, *[(b"x", b"y")] * 4)
    )

    assert wire.responses[1].status == 431
    assert wire.refused[-1].setting == "HEADER_COUNT_LIMIT"


def test_settings_that_nobody_knows_are_not_kept(open_wire: type[Wire]) -> None:
    wire = open_wire(http2_control_frame_limit=100)
    for first in range(0x100, 0x1000, 60):
        many = [wire.setting(code, 1) for code in range(first, first + 60)]
        wire.feed(wire.frame(frames.SETTINGS, 0, 0, b"".join(many)))

    assert not wire.goaways
    assert len(wire.connection._h2.remote_settings) < 20


def test_frame_full_of_settings_ends_the_connection(open_wire: type[Wire]) -> None:
    wire = open_wire()
    many = b"".join(wire.setting(code, 1) for code in range(0x100, 0x100 + 65))
    wire.feed(wire.frame(frames.SETTINGS, 0, 0, many))

    assert wire.last_code == CALM


def test_late_frames_of_a_stream_that_we_reset_are_no_fault(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1, end=False), wire.data(1, b"x"))
    wire.requests[0].stream.abort()
    wire.turn()
    wire.feed(wire.data(1, b"late"), wire.headers(1), wire.window(1, 1), wire.reset(1))
    wire.feed(wire.headers(3))

    assert not wire.goaways
    assert len(wire.requests) == 2


@pytest.mark.parametrize("cut", [1, 8, 9, 10, 5000, 16392, 16393, 16394, 30000])
def test_frames_that_are_cut_anywhere_are_put_together(
    open_wire: type[Wire], cut: int
) -> None:
    wire = open_wire()
    content = bytes(range(256)) * 64
    sent = wire.data(1, content) + wire.data(1, content[::-1]) + wire.data(1, b"abc")
    wire.feed(wire.headers(1, end=False), sent[:cut])
    assert wire.connection.is_reading_head is (cut not in {16393})

    wire.feed(sent[cut : cut + 2], sent[cut + 2 :])
    assert wire.requests[0].content == content + content[::-1] + b"abc"
    assert not wire.connection.is_reading_head
