"""Floods and bombs: each has a limit, a setting and an error code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from h2.errors import ErrorCodes

from djserve.protocols.http2 import frames

if TYPE_CHECKING:
    from tests.protocols.http2.conftest import Request, Wire

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
    assert len(wire.connection._streams.codec.remote_settings) < 20


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
