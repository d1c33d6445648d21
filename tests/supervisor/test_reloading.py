"""Which files are watched, and the signal of a change."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from djserve.errors import ConfigError
from djserve.supervisor.reloading import Reloader, is_source
from djserve.supervisor.signals import SignalQueue


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
                (tmp_path / "views.py").write_text(f"x = {time.monotonic()}")
                time.sleep(0.1)
                taken = signals.take()
        finally:
            reloader.close()

    assert taken == [signal.SIGHUP]


def test_path_that_does_not_exist_is_told() -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        Reloader(["/no/such/folder"])
