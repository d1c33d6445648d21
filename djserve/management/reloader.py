"""What is saved under ``runserver`` is seen at once.

Django's reloader looks once a second at every file that it watches, a thousand of
Python's and of installed packages among them, so that a change waits for half a second
on average. Here the project's own files are looked at in between, and a change there
brings Django's next look forward, once all is written. What counts as a change, and
what follows from one, stays with Django.
"""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from django.utils.autoreload import StatReloader

from djserve.management.development_processes import INSTALLED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from django.utils.autoreload import BaseReloader

Snapshot = dict[str, float | None]
"""When the file or folder of each path was changed; None if there is none."""

PACE = 0.1
"""Seconds between two looks at the project's files."""

SHARE = 50
"""Looks that Django would not make take at most one part in so many of the time."""

QUIET = 0.05
"""Seconds without another change after which a change is reported."""

LONGEST = 1.0
"""Seconds after which it is reported in any case, unless git is still writing."""

GIT_LIMIT = 10.0
"""Seconds after which git is no longer believed to be writing."""

STANDARD_LIBRARY = os.path.dirname(os.path.realpath(os.__file__)) + os.sep


def look_often(sender: BaseReloader, **kwargs: object) -> None:
    """Have a reloader that starts see changes of the project's files soon.

    Others than the one that looks at files, such as watchman's, are left alone.
    """
    if type(sender) is StatReloader:
        files = ProjectFiles(sender.snapshot_files, sender.SLEEP_TIME)
        sender.snapshot_files = files.snapshot  # type: ignore[method-assign]
        sender.SLEEP_TIME = 0


class ProjectFiles:
    """The project's own files among those that a reloader watches.

    ``look`` returns all of these with the time of their last change (seconds since the
    epoch), and ``interval`` is the seconds between two calls of it.
    """

    def __init__(
        self, look: Callable[[], Iterator[tuple[Path, float]]], interval: float
    ) -> None:
        self._look = look
        self._interval = interval
        self._known: Snapshot | None = None
        self._pause = PACE

    def snapshot(self) -> Iterator[tuple[Path, float]]:
        """Yield what ``look`` does, but not before something may have changed."""
        is_early = self._known is not None and self._wait(self._known)
        begun = time.monotonic()
        known: Snapshot = {}
        for path, changed in self._look():
            if is_own(path):
                known[str(path)] = changed
            yield path, changed
        self._known = known
        if is_early:
            # The change was none that has the server reloaded, and may come again.
            self._rest(time.monotonic() - begun)

    def _wait(self, known: Snapshot) -> bool:
        """Return True after a change, and False at the end of the interval."""
        end = time.monotonic() + self._interval
        while (left := end - time.monotonic()) > self._pause:
            time.sleep(self._pause)
            begun = time.monotonic()
            if look_at(known) != known:
                _await_quiet(known)
                return True
            self._rest(time.monotonic() - begun)
        time.sleep(max(0.0, left))
        return False

    def _rest(self, took: float) -> None:
        self._pause = max(PACE, took * SHARE)


def _await_quiet(files: Iterable[str]) -> None:
    """Return when all is written: an editor saves several files, git hundreds."""
    folders = {*map(os.path.dirname, files)}
    locks = {*filter(None, map(_find_git_lock, folders))}
    # New files change the folder that they are in.
    seen = look_at([*files, *folders])
    end = time.monotonic() + LONGEST
    while True:
        time.sleep(QUIET)
        before, seen = seen, look_at(seen)
        is_over = before == seen or time.monotonic() >= end
        if is_over and not any(map(_is_held, locks)):
            return


@cache
def is_own(path: Path) -> bool:
    """Return whether a file is neither Python's nor of an installed package."""
    return INSTALLED.isdisjoint(path.parts) and not str(path).startswith(
        STANDARD_LIBRARY
    )


def look_at(paths: Iterable[str]) -> Snapshot:
    """Return when these files or folders were changed."""
    return {path: _changed_at(path) for path in paths}


def _changed_at(path: str) -> float | None:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None


@cache
def _find_git_lock(folder: str) -> str | None:
    """Return what git creates while it writes files of a folder; None without git."""
    try:
        for parent in (Path(folder), *Path(folder).parents):
            git = parent / ".git"
            if git.is_dir():
                return str(git / "index.lock")
            if git.is_file():
                # Of another working tree, or a submodule.
                target = git.read_text("utf-8", "replace").removeprefix("gitdir:")
                return str(parent / target.strip() / "index.lock")
    except OSError:
        # It is another user's.
        return None
    return None


def _is_held(lock: str) -> bool:
    """Return whether git has made this lock, but not left it behind long ago."""
    made = _changed_at(lock)
    return made is not None and abs(time.time() - made) < GIT_LIMIT
