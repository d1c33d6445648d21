"""HTTP/2 connections: requests and responses, windows, drain, idle end."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from h2.errors import ErrorCodes

from djserve.errors import ProtocolError
from djserve.protocols.http2 import frames

if TYPE_CHECKING:
    from djserve.interfaces import RequestHead
    from tests.protocols.http2.conftest import Frame, Request, Wire

WINDOW_SIZE_SETTING = 4
PUSH_SETTING = 2


def answer(request: Request) -> None:
    request.answer()


def test_server_begins_with_settings_and_its_window(open_wire: type[Wire]) -> None:
    wire = open_wire(greet=False)

    assert wire.kinds() == [frames.SETTINGS, frames.WINDOW_UPDATE]
    assert wire.setting(8, 1) in wire.log[0].payload


def test_request_is_answered_in_one_write(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=answer)
    wire.transport.writes.clear()
    wire.feed(wire.headers(1), wire.headers(3) + wire.headers(5))

    assert [len(wire.responses), len(wire.transport.writes)] == [3, 2]
    assert wire.responses[5].content == b"ok"
    assert wire.responses[5].head[b"content-length"] == b"2"
    assert wire.responses[5].is_complete


def test_head_of_a_request_is_sorted(open_wire: type[Wire]) -> None:
    wire = open_wire()
    crumbs = [(b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2")]
    wire.feed(wire.headers(1, *crumbs, path=b"/p?q=1"))
    head = wire.requests[0].head

    assert (head.method, head.raw_path, head.query) == ("GET", b"/p", b"q=1")
    assert head.headers == [(b"host", b"a"), (b"x", b"y"), (b"cookie", b"a=1; b=2")]
    assert wire.requests[0].is_complete


def test_same_head_again_gives_a_list_of_its_own(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.requests[0].head.headers.clear()
    wire.feed(wire.headers(3))

    assert wire.requests[1].head.headers == [(b"host", b"a")]


def test_content_that_came_with_the_head_is_delivered_before_the_start(
    open_wire: type[Wire],
) -> None:
    seen: list[bytes] = []
    wire = open_wire(on_start=lambda request: seen.append(request.content))
    wire.feed(wire.headers(1, end=False) + wire.data(1, b"abc", end=True))

    assert seen == [b"abc"]


def test_window_is_given_back_only_for_what_is_read(open_wire: type[Wire]) -> None:
    wire = open_wire(http2_stream_window_size=2048)
    wire.feed(wire.headers(1, end=False), wire.data(1, b"x" * 2048))
    assert frames.WINDOW_UPDATE not in wire.kinds()

    wire.requests[0].stream.request_content()
    wire.turn()
    assert [f.stream_id for f in wire.log if f.kind == frames.WINDOW_UPDATE] == [1]


def test_connection_window_is_given_back_when_a_stream_ends_unread(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(http2_connection_window_size=65535)
    wire.feed(wire.headers(1, end=False), *[wire.data(1, b"x" * 10000)] * 5)
    wire.feed(wire.reset(1))

    updates = [frame for frame in wire.log if frame.kind == frames.WINDOW_UPDATE]
    assert [frame.stream_id for frame in updates] == [0]
    assert int.from_bytes(updates[0].payload, "big") == 50000


def test_response_stops_at_the_stream_window(open_wire: type[Wire]) -> None:
    wire = open_wire(client_settings=open_wire.setting(WINDOW_SIZE_SETTING, 1000))
    wire.feed(wire.headers(1))
    stream = wire.requests[0].stream
    stream.send_response(200, [], b"x" * 20000, more=True)
    wire.turn()
    assert len(wire.responses[1].content) == 1000
    before = stream.is_writable

    wire.feed(wire.window(1, 10000))
    assert len(wire.responses[1].content) == 11000
    assert (before, stream.is_writable) == (False, True)
    assert wire.requests[0].events == ["resume"]


def test_response_stops_at_the_connection_window(open_wire: type[Wire]) -> None:
    wire = open_wire(client_settings=open_wire.setting(WINDOW_SIZE_SETTING, 10**6))
    wire.feed(wire.headers(1))
    wire.requests[0].answer(b"x" * 100000)
    wire.turn()
    assert len(wire.responses[1].content) == 65535

    wire.feed(wire.window(0, 100000))
    assert len(wire.responses[1].content) == 100000
    assert wire.responses[1].is_complete


def test_smaller_window_by_settings_may_be_negative(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.requests[0].answer(b"x" * 70000)
    wire.turn()
    wire.feed(wire.settings(WINDOW_SIZE_SETTING, 100), wire.window(0, 10**6))
    wire.feed(wire.window(1, 65435))
    assert len(wire.responses[1].content) == 65535

    wire.feed(wire.window(1, 1))
    assert len(wire.responses[1].content) == 65536


def test_full_transport_stops_content_and_not_answers_to_pings(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.transport.fill()
    wire.requests[0].answer(b"x" * 100)
    wire.feed(wire.frame(frames.PING, 0, 0, b"12345678"))
    assert wire.kinds() == [frames.HEADERS, frames.PING]

    wire.transport.drain()
    wire.turn()
    assert wire.responses[1].is_complete


def test_exchange_hears_when_the_transport_takes_more(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.transport.fill()
    assert not wire.requests[0].stream.is_writable

    wire.transport.drain()
    assert wire.requests[0].events == ["resume"]


def test_reset_ends_that_request_and_no_other(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1), wire.headers(3), wire.reset(1))
    wire.requests[1].answer()
    wire.turn()

    assert [request.is_lost for request in wire.requests] == [True, False]
    assert wire.responses[3].is_complete


def test_request_that_is_reset_at_once_is_never_started(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1) + wire.reset(1))

    assert not wire.requests[0].is_started
    assert wire.requests[0].is_lost


def test_application_fault_after_the_head_resets_its_stream_alone(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1), wire.headers(3))
    wire.requests[0].stream.send_response(200, [], b"x", more=True)
    wire.requests[0].stream.abort()
    wire.requests[1].answer()
    wire.turn()

    assert wire.resets == {1: ErrorCodes.INTERNAL_ERROR}
    assert wire.responses[3].is_complete
    assert not wire.is_closed()


def test_upload_may_end_after_an_early_response(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=answer)
    wire.feed(wire.headers(1, end=False), wire.data(1, b"late"))
    wire.feed(wire.data(1, b"last", end=True)).tick(0.0, 2.0)

    assert wire.responses[1].is_complete
    assert not wire.resets
    assert not wire.connection.has_streams


def test_client_that_sends_on_is_asked_to_stop(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=answer)
    wire.feed(wire.headers(1, end=False), wire.data(1, b"late"))
    wire.tick(0.0, 1.9)
    assert not wire.resets

    wire.tick(2.0)
    wire.feed(wire.data(1, b"later"))
    assert wire.resets == {1: ErrorCodes.NO_ERROR}
    assert not wire.goaways


def test_upload_after_an_early_response_gets_no_window(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=answer, http2_stream_window_size=2000)
    wire.feed(wire.headers(1, end=False), wire.data(1, b"x" * 2000))
    assert frames.WINDOW_UPDATE not in wire.kinds()

    wire.feed(wire.data(1, b"x"))
    assert wire.resets == {1: ErrorCodes.FLOW_CONTROL_ERROR}


def test_refused_request_gets_the_status(open_wire: type[Wire]) -> None:
    def refuse(head: RequestHead) -> None:
        raise ProtocolError("Not here", 403, [(b"x-why", b"because")])

    wire = open_wire(refuse=refuse).feed(open_wire().headers(1))

    assert wire.responses[1].status == 403
    assert wire.responses[1].head[b"x-why"] == b"because"
    assert [error.status for error in wire.refused] == [403]


def test_too_much_content_gets_413(open_wire: type[Wire]) -> None:
    wire = open_wire(body_size_limit=10)
    wire.feed(wire.headers(1, end=False), wire.data(1, b"x" * 11))

    assert wire.responses[1].status == 413
    assert wire.requests[0].is_lost


def test_promised_length_beyond_the_limit_gets_413_at_once(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(body_size_limit=10)
    wire.feed(wire.headers(1, (b"content-length", b"11"), end=False))

    assert wire.responses[1].status == 413
    assert not wire.requests


def test_ping_is_answered(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(open_wire.frame(frames.PING, 0, 0, b"12345678"))

    assert wire.log == [(frames.PING, frames.ACK, 0, b"12345678")]


def test_end_of_the_transport_ends_every_request(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1), wire.headers(3))
    wire.transport.lose()

    assert [request.is_lost for request in wire.requests] == [True, True]
    assert wire.ended == [wire.connection]


# Drain.


def test_drain_takes_what_was_on_its_way(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.connection.drain()
    wire.turn()
    assert wire.goaways == [(2**31 - 1, 0)]

    ping = next(frame for frame in wire.log if frame.kind == frames.PING)
    wire.feed(wire.headers(3))
    for request in wire.requests:
        request.answer()
    wire.feed(wire.frame(frames.PING, frames.ACK, 0, ping.payload))
    assert wire.responses[3].is_complete
    assert wire.goaways[1:] == [(3, 0)]
    assert wire.is_closed()


def test_drain_asks_before_it_says_goodbye(open_wire: type[Wire]) -> None:
    # h2's clients take no frame after GOAWAY.
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.connection.drain()
    wire.turn()

    assert wire.kinds()[-2:] == [frames.PING, frames.GOAWAY]


def test_drain_ends_an_idle_connection_in_one_step(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=answer)
    wire.feed(wire.headers(1))
    wire.connection.drain()
    wire.turn()

    assert wire.goaways == [(1, 0)]
    assert wire.is_closed()


def answer_pings(wire: Wire) -> list[Frame]:
    """Answer what PINGs there are; return the frames so far."""
    log, wire.log[:] = list(wire.log), []
    for frame in log:
        if frame.kind == frames.PING:
            wire.feed(wire.frame(frames.PING, frames.ACK, 0, frame.payload))
    return log


def test_retired_connection_ends_when_its_responses_have_been_read(
    open_wire: type[Wire],
) -> None:
    # Clients on h2 fail what they have not read when they come to GOAWAY.
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.connection.retire()
    assert not wire.goaways

    wire.requests[0].answer()
    wire.turn()
    assert not wire.goaways
    log = answer_pings(wire)
    assert [frame.kind for frame in log].count(frames.PING) == 1
    assert wire.goaways == [(1, 0)]
    assert wire.is_closed()


@pytest.mark.parametrize("is_answered", [False, True])
def test_retired_connection_of_streams_at_once_takes_what_crosses(
    open_wire: type[Wire], is_answered: bool
) -> None:
    wire = open_wire(on_start=answer if is_answered else None)
    wire.feed(wire.headers(1) + wire.headers(3))
    wire.connection.retire()
    wire.feed(wire.headers(5))
    assert wire.goaways == [(2**31 - 1, 0)]

    # It answers the PING only behind what crossed with GOAWAY.
    wire.feed(wire.headers(7))
    answer_pings(wire)
    for request in wire.requests:
        if not is_answered:
            request.answer()
    wire.turn()
    assert wire.goaways == [(2**31 - 1, 0), (7, 0)]
    assert all(wire.responses[number].is_complete for number in (1, 3, 5, 7))
    assert wire.is_closed()


def test_retired_connection_of_streams_at_once_is_told_with_the_next(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(on_start=answer)
    wire.feed(wire.headers(1) + wire.headers(3))
    wire.connection.retire()
    wire.turn()
    assert not wire.goaways

    wire.feed(wire.headers(5))
    assert wire.goaways == [(2**31 - 1, 0)]
    assert wire.responses[5].is_complete


def test_retired_connection_goes_on_with_requests_that_come_before_the_answer(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    wire.connection.retire()
    wire.feed(wire.headers(1))
    wire.requests[0].answer()
    wire.turn().feed(wire.headers(3))
    answer_pings(wire)
    assert not wire.goaways

    wire.requests[1].answer()
    answer_pings(wire.turn())
    assert wire.goaways == [(3, 0)]


def test_retired_connection_asks_again_after_a_request_in_between(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(on_start=answer)
    wire.connection.retire()
    wire.feed(wire.headers(1))
    ping = next(frame for frame in wire.log if frame.kind == frames.PING)
    wire.log.clear()
    wire.feed(wire.frame(frames.PING, frames.ACK, 0, ping.payload) + wire.headers(3))
    assert not wire.goaways

    answer_pings(wire)
    assert wire.goaways == [(3, 0)]


def test_retired_connection_may_send_its_first_request(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=answer)
    wire.connection.retire()
    wire.turn()
    assert not wire.goaways
    wire.feed(wire.headers(1))
    answer_pings(wire)

    assert wire.responses[1].is_complete
    assert wire.goaways == [(1, 0)]


def test_drain_ends_what_was_retired(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.connection.retire()
    wire.connection.drain()
    wire.turn()
    assert wire.goaways == [(2**31 - 1, 0)]

    wire.requests[0].answer()
    wire.tick(0.0, 1.0)
    assert wire.goaways[1:] == [(1, 0)]
    assert wire.is_closed()


@pytest.mark.parametrize("kind", ["content", "reset", "window"])
def test_frames_of_a_stream_that_goaway_left_out_are_ignored(
    open_wire: type[Wire], kind: str
) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.connection.drain()
    wire.tick(0.0, 1.0)
    late = {
        "content": wire.data(3, b"late", end=True),
        "reset": wire.reset(3),
        "window": wire.window(3, 100),
    }
    wire.feed(wire.headers(3, end=False), late[kind])
    wire.requests[0].answer()
    wire.turn()

    assert wire.responses[1].is_complete
    assert wire.last_code == 0


def test_drain_waits_for_running_streams_and_takes_no_new_ones(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.connection.drain()
    wire.tick(0.0, 1.0)
    assert wire.goaways[1:] == [(1, 0)]
    wire.feed(wire.headers(3))
    assert len(wire.requests) == 1
    assert not wire.is_closed()

    wire.requests[0].answer()
    wire.turn()
    assert wire.responses[1].is_complete
    assert wire.is_closed()


def test_goaway_of_the_client_leaves_its_streams_alone(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1), frames.encode_goaway(0, 0))
    wire.requests[0].answer()
    wire.turn()

    assert wire.responses[1].is_complete


# Push.


def test_push_is_promised_and_served(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1, authority=b"b"))
    assert "http.response.push" in wire.requests[0].stream.extensions
    wire.requests[0].stream.push("/style.css", [(b"Accept", b"*/*")])
    wire.turn()
    wire.requests[1].answer(b"css")
    wire.turn()

    assert wire.promises[2][b":authority"] == b"b"
    assert wire.promises[2][b"accept"] == b"*/*"
    assert wire.requests[1].head.raw_path == b"/style.css"
    assert wire.responses[2].content == b"css"


def test_refused_push_is_harmless(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.requests[0].stream.push("/a", [])
    wire.turn()
    wire.feed(wire.reset(2))
    wire.requests[0].answer()
    wire.turn()

    assert wire.requests[1].is_lost
    assert wire.responses[1].is_complete


def test_client_without_push_is_promised_nothing(open_wire: type[Wire]) -> None:
    wire = open_wire(client_settings=open_wire.setting(PUSH_SETTING, 0))
    wire.feed(wire.headers(1))
    wire.requests[0].stream.push("/a", [])
    wire.turn()

    assert "http.response.push" not in wire.requests[0].stream.extensions
    assert not wire.log


# Timeouts of the connection.


def test_idle_connection_says_goodbye(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=answer, keep_alive_timeout=5)
    wire.feed(wire.headers(1)).tick(0.0, 4.9)
    assert not wire.goaways

    wire.tick(5.0)
    assert wire.goaways == [(1, 0)]
    assert wire.is_closed()


def test_request_that_meets_the_keep_alive_timeout_is_answered(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(on_start=answer, keep_alive_timeout=5)
    wire.feed(wire.headers(1)).tick(0.0)
    wire.is_unread = True
    wire.tick(5.0)
    assert not wire.goaways

    wire.feed(wire.headers(3)).tick(6.0, 10.9)
    assert len(wire.requests) == 2
    assert not wire.goaways


def test_other_frames_put_off_the_goodbye_only_once(open_wire: type[Wire]) -> None:
    wire = open_wire(on_start=answer, keep_alive_timeout=5)
    wire.feed(wire.headers(1)).tick(0.0)
    wire.is_unread = True
    wire.tick(5.0)
    wire.feed(wire.frame(frames.PING, 0, 0, bytes(8))).tick(6.0)

    assert wire.goaways == [(1, 0)]


@pytest.mark.parametrize("greet", [True, False], ids=["greeted", "silent"])
def test_connection_without_a_request_has_the_time_of_a_head(
    open_wire: type[Wire], greet: bool
) -> None:
    wire = open_wire(greet=greet, header_timeout=3, keep_alive_timeout=60)
    wire.tick(0.0, 3.0)

    assert wire.is_closed()


def test_open_stream_is_not_idle(open_wire: type[Wire]) -> None:
    wire = open_wire(keep_alive_timeout=5, http2_ping_interval=0)
    wire.feed(wire.headers(1)).tick(0.0, 1000.0)

    assert not wire.goaways


def test_silent_peer_is_asked_and_given_up(open_wire: type[Wire]) -> None:
    wire = open_wire(http2_ping_interval=10, http2_ping_timeout=4)
    wire.feed(wire.headers(1)).tick(0.0, 10.0)
    assert frames.PING in wire.kinds()
    wire.tick(13.9)
    assert not wire.is_closed()

    wire.tick(14.0)
    assert wire.is_closed()
    assert wire.requests[0].is_lost


def test_peer_that_answers_a_ping_lives_on(open_wire: type[Wire]) -> None:
    wire = open_wire(http2_ping_interval=10, http2_ping_timeout=4)
    wire.feed(wire.headers(1)).tick(0.0, 10.0)
    wire.feed(wire.frame(frames.PING, frames.ACK, 0, b"djserveA")).tick(14.0)

    assert not wire.goaways


def test_peer_that_never_acknowledges_settings_is_closed(open_wire: type[Wire]) -> None:
    wire = open_wire(greet=False, http2_settings_timeout=5)
    wire.feed(frames.PREFACE, wire.frame(frames.SETTINGS, 0, 0), wire.headers(1))
    wire.tick(0.0, 5.0)

    assert wire.last_code == ErrorCodes.SETTINGS_TIMEOUT


def test_peer_that_takes_no_byte_is_dropped(open_wire: type[Wire]) -> None:
    wire = open_wire(write_timeout=5)
    wire.feed(wire.headers(1))
    wire.transport.fill()
    wire.connection.data_received(wire.frame(frames.PING, 0, 0, b"12345678"))
    for now in (0.0, 4.0, 5.0):
        wire.connection.tick(now)

    assert wire.transport.is_aborted


def test_what_comes_after_goaway_is_dropped_up_to_a_bound(
    open_wire: type[Wire],
) -> None:
    wire = open_wire().feed(b"\0" * 9)
    assert wire.goaways
    wire.connection.data_received(b"x" * 200_000)
    assert not wire.transport.is_aborted

    wire.connection.data_received(b"x" * 100_000)
    assert wire.transport.is_aborted


def test_lingering_connection_is_closed_soon(open_wire: type[Wire]) -> None:
    wire = open_wire().feed(b"\0" * 9).tick(0.0, 2.0)

    assert wire.transport.is_closing


def test_closed_connection_writes_no_more(open_wire: type[Wire]) -> None:
    wire = open_wire()
    calls: list[str] = []
    transport = wire.transport
    for name in ("write", "write_eof", "close"):
        setattr(transport, name, _noting(name, getattr(transport, name), calls))
    # The turn that ends the writing comes late, as on a busy machine.
    wire.connection.data_received(b"\0" * 9)
    for now in (0.0, 2.0):
        wire.connection.tick(now)
    wire.turn()

    assert calls[-3:] == ["write", "write_eof", "close"]


def _noting(
    name: str, method: Callable[..., Any], calls: list[str]
) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        calls.append(name)
        return method(*args)

    return call


def test_transport_without_a_half_close_waits_for_the_peer(
    open_wire: type[Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = open_wire()
    monkeypatch.setattr(wire.transport, "can_write_eof", lambda: False)
    wire.feed(b"\0" * 9)
    assert wire.goaways
    assert not wire.transport.is_closing

    wire.tick(0.0, 2.0)
    assert wire.transport.is_closing


def test_second_drain_changes_nothing(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.feed(wire.headers(1))
    wire.connection.drain()
    wire.connection.drain()
    wire.turn()

    assert len(wire.goaways) == 1
    assert wire.requests[0].events == ["drain"]


def test_lost_transport_gets_no_end_of_ours(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.transport.feed(wire.window(0, 0))
    wire.transport.lose()
    wire.turn()

    assert not wire.transport.is_eof_written


def test_many_tiny_frames_are_read_in_several_turns(open_wire: type[Wire]) -> None:
    wire = open_wire()
    wire.transport.feed(wire.headers(1, end=False) + wire.data(1, b"x") * 5000)
    sizes = []
    while wire.soon and wire.connection.held_size:
        assert wire.transport.reading_paused
        # What waits is whole: no deadline for a part of a frame applies.
        assert not wire.connection.is_reading_head
        sizes.append(len(wire.requests[0].content))
        soon, wire.soon[:] = list(wire.soon), []
        for callback in soon:
            callback()
    wire.turn()

    assert len(sizes) >= 2
    assert max(after - before for before, after in pairwise([0, *sizes])) < 1700
    assert wire.requests[0].content == b"x" * 5000
    assert not wire.transport.reading_paused
    assert not wire.goaways


def test_large_header_blocks_are_read_in_several_turns(open_wire: type[Wire]) -> None:
    wire = open_wire(http2_stream_limit=1000)
    extra = [(b"x", b"y" * 900)]
    wire.transport.feed(b"".join(wire.headers(n, *extra) for n in range(1, 101, 2)))
    at_first = len(wire.requests)
    wire.turn()

    assert at_first < 25
    assert len(wire.requests) == 50


@pytest.mark.parametrize(
    ("host", "has_content"),
    [(b"a b", False), (b"a b", True), (b"a", False), (b"a", True)],
    ids=["malformed", "malformed upload", "forbidden", "forbidden upload"],
)
def test_refused_requests_are_read_in_several_turns(
    open_wire: type[Wire], host: bytes, has_content: bool
) -> None:
    def refuse(head: RequestHead) -> None:
        raise ProtocolError("Not here", 403)

    wire = open_wire(refuse=refuse)
    wire.transport.feed(
        b"".join(
            wire.headers(number, end=not has_content, authority=host)
            + (wire.data(number, b"x", end=True) if has_content else b"")
            for number in range(1, 1001, 2)
        )
    )
    counts = [0, len(wire.refused)]
    while len(wire.refused) < 500:
        assert wire.transport.reading_paused
        soon, wire.soon[:] = list(wire.soon), []
        for callback in soon:
            callback()
        counts.append(len(wire.refused))
    wire.turn()

    assert max(after - before for before, after in pairwise(counts)) <= 64
    assert {error.status for error in wire.refused} == {403 if host == b"a" else 400}
    assert len(wire.responses) == 500
    assert not wire.transport.reading_paused
    assert not wire.goaways


def test_uploads_that_are_too_large_are_refused_in_several_turns(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(body_size_limit=10, http2_stream_limit=200)
    heads = [wire.headers(number, end=False) for number in range(1, 201, 2)]
    wire.feed(*heads)
    wire.transport.feed(
        b"".join(wire.data(number, b"x" * 11) for number in range(1, 201, 2))
    )
    assert 0 < len(wire.refused) <= 64

    wire.turn()
    assert [error.status for error in wire.refused] == [413] * 100


def test_frames_that_wait_for_their_turn_end_with_the_connection(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    wire.transport.feed(wire.headers(1, end=False) + wire.data(1, b"x") * 5000)
    size = len(wire.requests[0].content)
    wire.connection.connection_lost(None)
    wire.turn()

    assert len(wire.requests[0].content) == size < 5000


def test_frames_that_come_while_others_wait_are_read_after_them(
    open_wire: type[Wire],
) -> None:
    wire = open_wire()
    head = wire.headers(1, end=False)
    wire.transport.feed(head + wire.data(1, b"x") * 5000)
    wire.connection.data_received(wire.data(1, b"y", end=True))
    wire.turn()

    assert wire.requests[0].content == b"x" * 5000 + b"y"
    assert wire.requests[0].is_complete
