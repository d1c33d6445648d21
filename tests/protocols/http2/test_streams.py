"""The streams of a connection: how many, and how many calls behind them."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest
from h2.errors import ErrorCodes

from djserve.errors import ApplicationError
from djserve.protocols.http2 import frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.protocols.http2.conftest import Request, Wire


def test_streams_beyond_the_limit_are_refused(open_wire: type[Wire]) -> None:
    wire = open_wire(http2_stream_limit=2)
    wire.feed(*[wire.headers(stream_id) for stream_id in (1, 3, 5)])

    assert wire.resets == {5: ErrorCodes.REFUSED_STREAM}
    assert [request.is_started for request in wire.requests] == [True, True]


def test_refused_head_still_counts_for_compression(open_wire: type[Wire]) -> None:
    wire = open_wire(http2_stream_limit=1)
    wire.feed(wire.headers(1))
    pairs = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"indexed")]
    block = wire.encoder.encode([*pairs, (b":path", b"/indexed")])
    flags = 0x5
    wire.feed(wire.frame(1, flags, 3, block))
    wire.requests[0].answer()
    wire.turn()
    again = wire.encoder.encode([*pairs, (b":path", b"/indexed")])
    assert len(again) < len(block)
    wire.feed(wire.frame(1, flags, 5, again))

    assert wire.requests[1].head.raw_path == b"/indexed"


def test_calls_that_outlive_their_streams_count(open_wire: type[Wire]) -> None:
    wire = open_wire(http2_call_limit=3)
    for stream_id in (1, 3, 5):
        wire.feed(wire.headers(stream_id), wire.reset(stream_id))
    wire.feed(wire.headers(7))
    assert wire.resets == {7: ErrorCodes.REFUSED_STREAM}

    wire.requests[1].is_running = False
    wire.feed(wire.headers(9))
    assert wire.requests[-1].is_started
    assert len(wire.requests) == 4


def test_calls_that_outlive_their_response_count(open_wire: type[Wire]) -> None:
    def answer(request: Request) -> None:
        request.answer()

    wire = open_wire(http2_call_limit=2, on_start=answer)
    wire.feed(wire.headers(1), wire.headers(3), wire.headers(5))

    assert wire.resets == {5: ErrorCodes.REFUSED_STREAM}


def test_calls_that_have_ended_do_not_pile_up(open_wire: type[Wire]) -> None:
    def answer(request: Request) -> None:
        request.answer()
        request.is_running = False

    wire = open_wire(http2_call_limit=5, on_start=answer)
    wire.feed(*[wire.headers(stream_id) for stream_id in range(1, 2001, 2)])

    assert len(wire.requests) == 1000
    assert len(wire.connection._streams._calls) <= 5


def test_push_counts_as_a_call(open_wire: type[Wire]) -> None:
    wire = open_wire(http2_call_limit=2)
    wire.feed(wire.headers(1))
    for _ in range(3):
        wire.requests[0].stream.push("/a", [])
    wire.turn()

    assert list(wire.promises) == [2]


def test_path_of_a_push_is_quoted(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.requests[0].stream.push("/ä b?c=%20", [])
    wire.turn()

    assert wire.promises[2][b":path"] == b"/%C3%A4%20b?c=%20"


@pytest.mark.parametrize("header", [(b"x y", b"z"), (b"connection", b"x")])
def test_push_that_is_no_request_is_the_applications_fault(
    open_wire: type[Wire], header: tuple[bytes, bytes]
) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1))

    with pytest.raises(ApplicationError, match="cannot be pushed"):
        wire.requests[0].stream.push("/", [header])
    assert not wire.promises


PROMISED: dict[str, Callable[[Wire], bytes]] = {
    "DATA": lambda wire: wire.data(2, b"x"),
    "HEADERS": lambda wire: wire.headers(2),
    "RST_STREAM": lambda wire: wire.reset(2),
    "WINDOW_UPDATE": lambda wire: wire.window(2, 1),
    "WINDOW_UPDATE of nothing": lambda wire: wire.window(2, 0),
    "PRIORITY": lambda wire: wire.frame(frames.PRIORITY, 0, 2, bytes(5)),
    "CONTINUATION": lambda wire: wire.frame(frames.CONTINUATION, 4, 2),
}


@pytest.mark.parametrize("state", ["promised", "begun", "ended"])
@pytest.mark.parametrize("name", PROMISED)
def test_client_on_a_promised_stream(
    open_wire: type[Wire], name: str, state: str
) -> None:
    # RFC 9113 section 5.1: reserved (local), half-closed (remote), closed.
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.requests[0].stream.push("/a", [])
    wire.turn()
    if state != "promised":
        more = state == "begun"
        wire.requests[1].stream.send_response(200, [], b"x", more=more)
        wire.turn()
    wire.feed(PROMISED[name](wire))

    faults = {
        "CONTINUATION": {"": ErrorCodes.PROTOCOL_ERROR},
        "DATA": {
            "promised": ErrorCodes.PROTOCOL_ERROR,
            "ended": ErrorCodes.STREAM_CLOSED,
        },
        "HEADERS": {
            "promised": ErrorCodes.PROTOCOL_ERROR,
            "ended": ErrorCodes.PROTOCOL_ERROR,
        },
    }.get(name, {})
    assert wire.last_code == faults.get(state, faults.get(""))
    resets = {
        "DATA": {"begun": ErrorCodes.STREAM_CLOSED},
        "HEADERS": {"begun": ErrorCodes.STREAM_CLOSED},
        "WINDOW_UPDATE of nothing": dict.fromkeys(
            ("promised", "begun"), ErrorCodes.PROTOCOL_ERROR
        ),
    }.get(name, {})
    assert wire.resets.get(2) == resets.get(state)


def test_early_priorities_are_few(open_wire: type[Wire]) -> None:
    wire = open_wire()
    for stream_id in range(1, 400, 2):
        update = stream_id.to_bytes(4, "big") + b"u=0"
        wire.feed(wire.frame(0x10, 0, 0, update))

    assert len(wire.connection._streams._early_priorities) == 32


def test_stalled_responses_hold_a_message_each_and_no_copy(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(
        client_settings=open_wire.setting(4, 0), http2_call_limit=5, write_timeout=30
    )
    chunk = b"x" * 1_000_000
    wire.feed(*[wire.headers(stream_id) for stream_id in range(1, 13, 2)])
    assert wire.resets == {11: ErrorCodes.REFUSED_STREAM}
    tracemalloc.start()
    try:
        for request in wire.requests:
            request.stream.send_response(200, [], chunk, more=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert not any(request.stream.is_writable for request in wire.requests)
    assert peak < len(chunk)


def test_stalled_responses_end_by_the_write_timeout(open_wire: type[Wire]) -> None:
    wire = open_wire(client_settings=open_wire.setting(4, 0), write_timeout=30)
    chunk = bytearray(1_000_000)
    wire.feed(wire.headers(1), wire.headers(3))
    for request in wire.requests:
        request.stream.send_response(200, [], memoryview(chunk), more=False)  # type: ignore[arg-type]
    wire.tick(0.0, 29.0)
    assert not wire.resets
    wire.tick(30.0)

    assert set(wire.resets.values()) == {ErrorCodes.ENHANCE_YOUR_CALM}
    # No view of it is left anywhere, or this would raise BufferError.
    chunk.clear()
