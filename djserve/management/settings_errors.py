"""Settings that cannot be loaded any more while ``runserver`` runs: wait for the next.

Django finds the command by the settings, so that its reloaded process ends before it
comes to ours. The parent, which only starts that process, is left to wait for a change.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.autoreload import DJANGO_AUTORELOAD_ENV, StatReloader

if TYPE_CHECKING:
    from collections.abc import Mapping

POLL_INTERVAL = 0.5
LOAD_SETTINGS = "from django.conf import settings; settings.INSTALLED_APPS"


def is_parent() -> bool:
    """Return whether this process starts the one that serves."""
    return os.environ.get(DJANGO_AUTORELOAD_ENV) != "true"


class SettingsWatch:
    """The project's files as they are now, to see the next change."""

    def __init__(self) -> None:
        self._reloader = StatReloader()
        module = sys.modules.get(settings.SETTINGS_MODULE)
        if module is not None and module.__file__:
            # Files that settings import may be new.
            folder = Path(module.__file__).resolve().parent
            self._reloader.watch_dir(folder, "**/*.py")
        self._before = self._read_times()

    def wait(self) -> None:
        """Return after a change, however soon it came."""
        while not self.has_changed():
            time.sleep(POLL_INTERVAL)

    def has_changed(self) -> bool:
        """Return whether a file is another than at the beginning."""
        return self._read_times() != self._before

    def _read_times(self) -> Mapping[Path, float]:
        return dict(self._reloader.snapshot_files())


def are_settings_broken() -> bool:
    """Return whether a new process of this project would fail to load its settings."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    loading = subprocess.run(
        [sys.executable, "-c", LOAD_SETTINGS],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return loading.returncode != 0
