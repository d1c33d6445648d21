from __future__ import annotations

import pytest

from djserve.conf.catalogue import settings_by_key
from djserve.instrumentation.limits import LIMITS, limits_reached, note_limit
from djserve.instrumentation.spooled import note_refusal
from djserve.instrumentation.unavailable import note_unavailable

# What reaches these waits, and is neither refused nor closed.
WAITING = {"WEBSOCKET_FRAME_RATE_LIMIT", "WEBSOCKET_QUEUE_LIMIT"}

# Counted as the message that the frame is a part of.
PARTS = {"WEBSOCKET_FRAME_SIZE_LIMIT"}


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
