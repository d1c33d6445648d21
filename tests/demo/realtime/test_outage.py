"""A channel layer that is away: one line in the log, and pauses."""

from __future__ import annotations

import logging

import pytest

from demo_project.realtime.outage import LONGEST_PAUSE, Outage, OutageFilter, is_outage
from tests.support.logs import own_records

ERROR = ConnectionRefusedError(111, "Connection refused")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outage(clock: Clock) -> Outage:
    return Outage(clock)


def test_failures_are_logged_once(
    outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        outage.failed(ERROR)

    assert [record.levelname for record in own_records(caplog)] == ["ERROR"]
    assert "Connection refused" in caplog.text


def test_pauses_grow_up_to_a_limit(outage: Outage, clock: Clock) -> None:
    pauses = []
    for _ in range(7):
        outage.failed(ERROR)
        began = clock.now
        while outage.is_pausing:
            clock.now += 0.5
        pauses.append(clock.now - began)

    assert pauses[:4] == [1, 2, 4, 8]
    assert set(pauses[4:]) == {LONGEST_PAUSE}


def test_end_is_logged_once_and_ends_the_pause(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outage.failed(ERROR)
    clock.now += 30
    outage.succeeded()
    outage.succeeded()

    assert [record.levelname for record in own_records(caplog)] == ["ERROR", "WARNING"]
    assert "back after 30 s" in caplog.text
    assert not outage.is_pausing


def test_stragglers_of_an_outage_are_not_told_again(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outage.failed(ERROR)
    outage.succeeded()
    clock.now += 1
    outage.failed(ERROR)
    outage.succeeded()
    assert len(own_records(caplog)) == 2

    outage.failed(ERROR)
    clock.now += 60
    outage.failed(ERROR)
    outage.succeeded()
    assert len(own_records(caplog)) == 4


def test_success_without_an_outage_is_not_told(
    outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    outage.succeeded()

    assert not own_records(caplog)
    assert not outage.was_since(0)


def test_outage_is_remembered_by_those_who_joined_before(
    outage: Outage, clock: Clock
) -> None:
    outage.failed(ERROR)
    assert outage.was_since(clock.now + 1)
    clock.now += 5
    outage.succeeded()

    assert outage.was_since(clock.now - 1)
    assert not outage.was_since(clock.now + 1)


def test_only_lost_connections_count() -> None:
    redis = pytest.importorskip("redis.exceptions")

    assert is_outage(ERROR)
    assert is_outage(redis.ConnectionError("gone"))
    assert is_outage(redis.TimeoutError("slow"))
    assert not is_outage(redis.ResponseError("wrong"))
    assert not is_outage(ValueError("wrong"))


def test_filter_passes_what_is_no_outage(
    monkeypatch: pytest.MonkeyPatch, outage: Outage
) -> None:
    monkeypatch.setattr("demo_project.realtime.outage.outage", outage)

    def passes(error: Exception | None) -> bool:
        info = None if error is None else (type(error), error, None)
        record = logging.LogRecord("redis", 40, "x.py", 1, "failed", (), info)
        return OutageFilter().filter(record)

    assert passes(None)
    assert passes(ValueError("wrong"))
    assert not outage.is_pausing
    assert not passes(ERROR)
    assert outage.is_pausing
