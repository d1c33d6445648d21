"""Which files are watched, and the signal of a change."""

from __future__ import annotations

import select
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from djserve.errors import ConfigError
from djserve.supervisor.reloading import Reloader, is_source
from djserve.supervisor.signals import SignalQueue
from tests.support.logs import own_records


@pytest.mark.parametrize(
    ("path", "is_watched"),
    [
        ("/site/views.py", True),
        ("/site/templates/index.html", True),
        ("/site/db.sqlite3", False),
        ("/site/__pycache__/views.py", False),
        ("/site/node_modules/a/package.json", False),
    ],
)
def test_sources_are_watched_and_data_is_not(path: str, is_watched: bool) -> None:
    assert is_source(path) is is_watched


def test_change_of_a_source_is_a_signal(tmp_path: Path) -> None:
    with SignalQueue() as signals:
        reloader = Reloader([str(tmp_path)])
        try:
            deadline = time.monotonic() + 120
            taken: list[signal.Signals] = []
            while not taken and time.monotonic() < deadline:
                # Nothing tells when the folder is watched.
                (tmp_path / "views.py").write_text(f"x = {time.monotonic()}")
                select.select([signals], [], [], 0.2)
                taken = signals.take()
        finally:
            reloader.close()

    assert taken == [signal.SIGHUP]


def test_change_that_is_seen_at_the_end_is_no_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "djserve")
    seen = threading.Event()

    def watch(*paths: str, stop_event: threading.Event, **options: object) -> Any:
        stop_event.wait(120)
        yield {(1, str(tmp_path / "views.py"))}
        seen.set()

    monkeypatch.setattr("watchfiles.watch", watch)
    # Without a handler, a signal would end the tests.
    Reloader([str(tmp_path)]).close()

    assert seen.wait(120)
    assert own_records(caplog) == []


def test_path_that_does_not_exist_is_told() -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        Reloader(["/no/such/folder"])
