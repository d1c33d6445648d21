"""Temporary files of request content, and their space."""

from __future__ import annotations

import logging

import pytest

from djserve.handlers import disk
from djserve.handlers.disk import SpooledFile, note_full_disk
from djserve.instrumentation.spooled import spooled_size
from tests.support.logs import own_messages


def test_space_is_taken_until_the_file_is_closed() -> None:
    with SpooledFile() as file:
        assert file.claim(100, 250)
        assert file.claim(150, 250)
        assert not file.claim(1, 250)
        assert spooled_size() == 250

    file.close()
    assert spooled_size() == 0


def test_what_is_written_can_be_read() -> None:
    with SpooledFile() as file:
        file.writelines([b"ab", b"cd"])
        file.seek(0)
        assert file.read() == b"abcd"


def test_full_disk_is_logged_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(disk, "_next_log", 0.0)
    with caplog.at_level(logging.WARNING, "djserve"):
        note_full_disk()
        note_full_disk()

    assert len(own_messages(caplog)) == 1
    assert "UPLOAD_DISK_LIMIT" in own_messages(caplog)[0]
