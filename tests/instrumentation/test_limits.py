from __future__ import annotations

import pytest

from djserve.conf.catalogue import settings_by_key
from djserve.instrumentation import limits
from djserve.instrumentation.limits import (
    LIMITS,
    limits_reached,
    note_limit,
    note_unavailable,
)
from djserve.instrumentation.spooled import note_refusal
from tests.support.logs import own_messages

A = {"method": "GET", "path": "/a", "query_string": b"secret"}

# What reaches these waits, and is neither refused nor closed.
WAITING = {"WEBSOCKET_FRAME_RATE_LIMIT", "WEBSOCKET_QUEUE_LIMIT"}

# Counted as the message that the frame is a part of.
PARTS = {"WEBSOCKET_FRAME_SIZE_LIMIT"}


@pytest.fixture(autouse=True)
def _first_line_of_each_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_next_log", {})
    monkeypatch.setattr(limits, "_unnamed", {})


def test_each_limit_of_the_settings_is_counted() -> None:
    keys = set(settings_by_key())

    assert set(LIMITS) <= keys
    assert {key for key in keys if key.endswith("_LIMIT")} <= {
        *LIMITS,
        *WAITING,
        *PARTS,
    }
    assert set(limits_reached()) == set(LIMITS)


def test_other_settings_are_not_counted() -> None:
    before = dict(limits_reached())
    note_limit("ROOT_PATH_MODE")
    note_limit("")

    assert limits_reached() == before


@pytest.mark.parametrize("setting", ["THREAD_QUEUE_LIMIT", "REQUEST_TIMEOUT"])
def test_request_that_a_setting_answers_is_counted(setting: str) -> None:
    before = limits_reached()[setting]
    note_unavailable(setting, "too late", {"path": "/"})
    note_unavailable(setting, "too late", {"path": "/"})

    assert limits_reached()[setting] == before + 2


def test_content_that_is_refused_is_counted() -> None:
    before = dict(limits_reached())
    for status in (408, 413, 503, 503):
        note_refusal(status)

    after = limits_reached()
    assert after["BODY_TIME_LIMIT"] == before["BODY_TIME_LIMIT"] + 1
    assert after["UPLOAD_DISK_LIMIT"] == before["UPLOAD_DISK_LIMIT"] + 2


def test_each_setting_has_its_line_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(limits, "monotonic", lambda: now)
    for setting in ("A", "A", "A", "B"):
        note_unavailable(setting, "too late", A)
    now += 61
    note_unavailable("A", "too late", {**A, "path": "/b\n"})

    assert own_messages(caplog) == [
        "Answered GET /a with 503: too late (setting A); 0 more since the last such "
        "line",
        "Answered GET /a with 503: too late (setting B); 0 more since the last such "
        "line",
        "Answered GET /b\\x0a with 503: too late (setting A); 2 more since the last "
        "such line",
    ]


def test_long_target_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    note_unavailable("A", "too late", {"path": "/" + "a" * 5000})

    assert own_messages(caplog)[0].startswith("Answered WebSocket /aaa")
    assert len(own_messages(caplog)[0]) < 400
