"""The line for requests that a setting has answered with 503."""

from __future__ import annotations

import pytest

from djserve.instrumentation import unavailable
from djserve.instrumentation.unavailable import note_unavailable
from tests.support.logs import own_messages

A = {"method": "GET", "path": "/a", "query_string": b"secret"}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unavailable, "_next_log", {})
    monkeypatch.setattr(unavailable, "_unnamed", {})
    monkeypatch.setattr(unavailable, "_unnamed", {})


def test_each_setting_has_its_line_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(unavailable, "monotonic", lambda: now)
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
