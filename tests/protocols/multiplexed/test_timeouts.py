"""Streams that wait too long: slow content and windows that are never opened."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes

from djserve.conf.schema import HTTPConfig
from djserve.protocols.multiplexed.timeouts import ConnectionClock, Wait
from tests.protocols.http2.conftest import GET

if TYPE_CHECKING:
    from tests.protocols.http2.conftest import Wire


def test_stalled_window_resets_its_stream_alone(open_wire: type[Wire]) -> None:
    wire = open_wire(
        client_settings=open_wire.setting(4, 100),
        write_timeout=5,
        http2_ping_interval=0,
    )
    wire.feed(wire.headers(1), wire.headers(3))
    wire.requests[0].answer(b"x" * 1000)
    wire.turn().tick(0.0, 4.9)
    assert not wire.resets

    wire.tick(5.0)
    assert wire.resets == {1: ErrorCodes.ENHANCE_YOUR_CALM}
    wire.requests[1].answer()
    wire.turn()
    assert wire.responses[3].is_complete


def test_stalled_connection_window_resets_what_waits(open_wire: type[Wire]) -> None:
    wire = open_wire(client_settings=open_wire.setting(4, 2**20), write_timeout=5)
    wire.feed(wire.headers(1), wire.headers(3))
    for request in wire.requests:
        request.answer(b"x" * 100_000)
    wire.turn().tick(0.0, 5.0)

    assert wire.resets == {1: 11, 3: 11}


def test_window_that_opens_gives_time(open_wire: type[Wire]) -> None:
    wire = open_wire(client_settings=open_wire.setting(4, 100), write_timeout=5)
    wire.feed(wire.headers(1))
    wire.requests[0].answer(b"x" * 1000)
    wire.turn().tick(0.0, 4.0)
    wire.feed(wire.window(1, 1)).tick(5.0, 9.9)
    assert not wire.resets

    wire.tick(10.0)
    assert wire.resets == {1: 11}


def test_slow_content_gets_408(open_wire: type[Wire]) -> None:
    wire = open_wire(body_timeout=10, body_min_rate=100)
    wire.feed(wire.headers(1, end=False)).tick(0.0)
    wire.feed(wire.data(1, b"x" * 999))
    wire.requests[0].stream.request_content()
    wire.tick(10.0)

    assert wire.responses[1].status == 408
    assert wire.requests[0].is_lost


def test_upgrade_that_is_not_accepted_yet_is_no_slow_content(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(body_timeout=10, body_min_rate=100)
    base = [*GET, (b":protocol", b"websocket")]
    wire.feed(wire.headers(1, end=False, base=base, method=b"CONNECT"))
    for second in (0.0, 10.0, 20.0):
        wire.tick(second)

    assert not wire.responses
    assert not wire.requests[0].is_lost


def test_content_that_is_quick_enough_is_taken(open_wire: type[Wire]) -> None:
    wire = open_wire(body_timeout=10, body_min_rate=100)
    wire.feed(wire.headers(1, end=False)).tick(0.0)
    for second in range(1, 60):
        wire.feed(wire.data(1, b"x" * 101))
        wire.requests[0].stream.request_content()
        wire.tick(float(second))

    assert not wire.responses


def test_application_that_does_not_read_is_not_the_peers_fault(
    open_wire: type[Wire],
) -> None:
    wire = open_wire(body_timeout=10, body_min_rate=100, http2_ping_interval=0)
    wire.feed(wire.headers(1, end=False), wire.data(1, b"x"))
    wire.tick(0.0, 10.0, 20.0, 30.0)

    assert not wire.responses


def test_client_that_awaits_continue_is_not_slow(open_wire: type[Wire]) -> None:
    wire = open_wire(body_timeout=10, body_min_rate=100, http2_ping_interval=0)
    wire.feed(wire.headers(1, (b"expect", b"100-continue"), end=False))
    wire.tick(0.0, 10.0, 20.0)

    assert not wire.responses


def test_wait_begins_with_the_first_call_and_anew_after_a_stop() -> None:
    wait = Wait()

    assert [wait.is_over(now, 2.0) for now in (5.0, 6.9, 7.0)] == [False, False, True]
    wait.stop()
    assert [wait.is_over(now, 2.0) for now in (8.0, 10.0)] == [False, True]


class Clock:
    """A connection's clock, and what it asks of the connection."""

    def __init__(self) -> None:
        self.facts = SimpleNamespace(
            mark=0, has_streams=False, request_count=0, ended_count=0
        )
        http = HTTPConfig(header_timeout=5.0, keep_alive_timeout=50.0)
        self.clock = ConnectionClock(http)

    def find_idle(self, *times: float) -> list[bool]:
        found = []
        for now in times:
            self.clock.begin(self.facts, now)
            found.append(self.clock.is_idle_too_long(self.facts, now))
        return found


def test_clock_counts_from_the_first_check() -> None:
    each = Clock()

    assert [each.clock.begin(each.facts, now) for now in (7.0, 8.5, 9.0)] == [
        0,
        1.5,
        0.5,
    ]
    assert each.clock.age == 2.0


def test_silence_begins_anew_with_each_sign_of_life() -> None:
    each = Clock()
    each.clock.begin(each.facts, 1.0)
    each.clock.begin(each.facts, 2.0)
    assert each.clock.silent_since == 1.0

    each.facts.mark = 1
    each.clock.begin(each.facts, 3.0)
    assert each.clock.silent_since == 3.0


def test_time_between_requests_is_longer_than_before_the_first() -> None:
    each = Clock()
    assert each.find_idle(0.0, 4.9, 5.0) == [False, False, True]

    each.facts.request_count = 1
    assert each.find_idle(49.0, 50.0) == [False, True]


def test_stream_between_two_checks_begins_the_idle_time_anew() -> None:
    each = Clock()
    each.find_idle(0.0, 4.0)
    each.facts.ended_count = 1

    assert each.find_idle(4.5, 9.4, 9.5) == [False, False, True]
    assert each.clock.idle_since == 4.5


def test_connection_with_streams_is_never_idle() -> None:
    each = Clock()
    each.find_idle(0.0)
    each.facts.has_streams = True

    assert each.find_idle(100.0) == [False]
    assert each.clock.idle_since is None
