"""What is overdue on a connection, by counts and times."""

from __future__ import annotations

from types import SimpleNamespace

from djserve.conf.schema import HTTP2Config, HTTPConfig
from djserve.protocols.http3.timeouts import (
    PING_INTERVAL,
    ConnectionTimeouts,
    Ending,
    Overdue,
)
from djserve.protocols.limits import LINGER_TIMEOUT
from djserve.protocols.multiplexed.timeouts import DRAIN_GRACE


class Clock:
    def __init__(self) -> None:
        self.facts = SimpleNamespace(
            mark=0, has_streams=False, request_count=0, ended_count=0
        )
        http = HTTPConfig(header_timeout=5.0, keep_alive_timeout=50.0)
        self.timeouts = ConnectionTimeouts(http, HTTP2Config())

    def check(self, now: float, ending: Ending = Ending.OPEN) -> list[Overdue]:
        self.timeouts.begin(self.facts, now)
        return list(self.timeouts.check(ending, self.facts, now))


def test_connection_without_a_request_ends_early() -> None:
    clock = Clock()

    assert [clock.check(now) for now in (0.0, 4.0)] == [[], []]
    assert clock.check(5.0) == [Overdue.REQUEST]


def test_connection_is_kept_between_requests() -> None:
    clock = Clock()
    clock.check(0.0)
    clock.facts.request_count = clock.facts.ended_count = 1

    assert [clock.check(now) for now in (4.0, 53.0)] == [[], []]
    assert clock.check(54.0) == [Overdue.REQUEST]


def test_silent_peer_with_streams_is_asked() -> None:
    clock = Clock()
    clock.facts.has_streams = True
    clock.check(0.0)

    assert clock.check(PING_INTERVAL - 1) == []
    assert clock.check(PING_INTERVAL) == [Overdue.PING]
    assert clock.check(PING_INTERVAL + 1) == []
    clock.facts.mark = 1
    assert clock.check(2 * PING_INTERVAL) == []


def test_last_stream_is_named_after_a_grace() -> None:
    clock = Clock()
    clock.facts.has_streams = True

    assert clock.check(0.0, Ending.ANNOUNCED) == []
    assert clock.check(DRAIN_GRACE, Ending.ANNOUNCED) == [Overdue.LAST_STREAM]


def test_lingering_has_an_end() -> None:
    clock = Clock()

    assert clock.check(0.0, Ending.LINGERING) == []
    assert clock.check(LINGER_TIMEOUT, Ending.LINGERING) == [Overdue.END]
