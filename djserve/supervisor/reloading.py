"""``--reload``: a change of a file is a SIGHUP to the supervisor.

So a reload in development is that of production: code with an error is shown, and the
workers keep running until it is fixed.
"""

# What a change of a file leads to
#
# The watcher decides nothing. It turns a change into the signal that an operator would
# send, and all that makes a reload safe is what the supervisor does with that signal: a
# new loader imports the code, old workers serve until new ones are ready, and code with
# a mistake leaves everything as it is. A reloader that ends the process and starts it
# again would have a moment without a server at each change, and no server after a
# mistake.
#
# An editor saves in several steps (a new file, a rename, a backup), and a change of
# branch touches thousands of files. watchfiles gathers changes until they stop for a
# moment, and reports them together; a further SIGHUP during a reload is one more reload
# after it, however many there are. So there is no count or delay here.
#
# Only files that can be code, settings or templates are looked at. With all files, a
# view that writes a log or a database next to the code would reload the server that
# runs it.
#
# A signal must not come after the end. The thread asks for ``_ended`` and sends the
# signal under one lock, and ``close`` sets it under the same: once that has returned,
# SIGHUP may have its default action again, which is to end the process.

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import TYPE_CHECKING

from djserve.conf.extras import is_installed, missing_package
from djserve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger("djserve")

# What holds code, settings and templates; data that a project writes is none of it.
SUFFIXES = (".py", ".html", ".txt", ".toml", ".ini", ".cfg", ".env", ".json", ".po")
IGNORED_FOLDERS = frozenset({"__pycache__", "node_modules", ".git", ".venv", "venv"})
INTERVAL = 300
"""Milliseconds between looks, if the file system does not tell of changes."""


class Reloader:
    """Watch files in a thread until ``close``.

    Raises ConfigError if watchfiles is not installed or a path does not exist.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        if not is_installed("watchfiles"):
            raise missing_package("RELOAD", "watchfiles")
        self._paths = [os.path.abspath(path) for path in paths or (".",)]
        for path in self._paths:
            if not os.path.exists(path):
                raise ConfigError([f"RELOAD_PATHS: {path!r} does not exist"])
        self._ended = threading.Event()
        self._telling = threading.Lock()
        self._thread = threading.Thread(
            target=self._watch, name="djserve-reload", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Watch no more; no signal is sent once this has returned."""
        with self._telling:
            self._ended.set()
        self._thread.join(timeout=5)

    def _watch(self) -> None:
        import watchfiles

        for changes in watchfiles.watch(
            *self._paths,
            watch_filter=lambda change, path: is_source(path),
            stop_event=self._ended,
            rust_timeout=INTERVAL,
        ):
            names = sorted({os.path.relpath(path) for _, path in changes})
            self._tell(", ".join(names[:3]))

    def _tell(self, names: str) -> None:
        # Once nobody handles the signal any more, it would end the process.
        with self._telling:
            if not self._ended.is_set():
                logger.info("Changed: %s", names)
                os.kill(os.getpid(), signal.SIGHUP)


def is_source(path: str) -> bool:
    """Return whether a file is code, settings or a template."""
    if not path.endswith(SUFFIXES):
        return False
    return IGNORED_FOLDERS.isdisjoint(path.split(os.sep))
