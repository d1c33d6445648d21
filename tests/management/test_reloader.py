"""The reloader sees soon what is saved, and waits until all is."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.utils.autoreload import (
    BaseReloader,
    StatReloader,
    autoreload_started,
    file_changed,
)

from djserve.management import reloader as module
from djserve.management.reloader import ProjectFiles, is_own, look_often

NEVER = 3600.0


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Leave no receiver behind."""
    receivers = [*autoreload_started.receivers]
    yield
    autoreload_started.receivers = receivers
    autoreload_started.sender_receivers_cache.clear()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with one module."""
    (tmp_path / "views.py").write_text("OLD = 1\n")
    return tmp_path


def files_of(project: Path) -> ProjectFiles:
    """Return what looks at the project alone, and by itself never looks again."""
    reloader = StatReloader()
    reloader.watch_dir(project, "**/*.py")
    return ProjectFiles(partial(_look, reloader, project), NEVER)


def _look(reloader: StatReloader, project: Path) -> Iterator[tuple[Path, float]]:
    return (each for each in reloader.snapshot_files() if project in each[0].parents)


def run_in_pauses(monkeypatch: pytest.MonkeyPatch, *steps: Any) -> list[float]:
    """Take one step in each pause, then none; return the pauses."""
    left, pauses = [*steps], []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if left:
            left.pop(0)()

    monkeypatch.setattr(time, "sleep", sleep)
    return pauses


def nothing() -> None:
    pass


def test_change_ends_the_wait_for_the_next_look(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = project / "views.py"
    files = files_of(project)
    before = dict(files.snapshot())
    pauses = run_in_pauses(
        monkeypatch, nothing, nothing, lambda: file.write_text("NEW = 10\n")
    )
    after = dict(files.snapshot())

    assert before.keys() == after.keys() == {file}
    assert after[file] == file.stat().st_mtime
    assert pauses == [module.PACE] * 3 + [module.QUIET]


def test_change_is_reported_once_all_is_written(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, other = project / "views.py", project / "models.py"
    other.write_text("")
    files = files_of(project)
    [*files.snapshot()]
    steps = [
        partial(path.write_text, "#" * length)
        for length, path in enumerate([file, other, file, other], 10)
    ]
    pauses = run_in_pauses(monkeypatch, *steps)
    [*files.snapshot()]

    assert (len(file.read_text()), len(other.read_text())) == (12, 13)
    assert pauses == [module.PACE] + [module.QUIET] * 4


def test_new_files_are_waited_for_too(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of(project)
    [*files.snapshot()]
    steps = [
        partial((project / "views.py").write_text, "#" * 10),
        partial((project / "forms.py").write_text, ""),
        partial((project / "urls.py").write_text, ""),
    ]
    pauses = run_in_pauses(monkeypatch, *steps)
    seen = dict(files.snapshot())

    assert {path.name for path in seen} == {"views.py", "forms.py", "urls.py"}
    assert pauses == [module.PACE] + [module.QUIET] * 3


@pytest.fixture(params=["repository", "worktree"])
def lock(request: pytest.FixtureRequest, project: Path, tmp_path: Path) -> Path:
    """The file that git has while it writes to the project's files."""
    module._find_git_lock.cache_clear()
    git = project / ".git"
    if request.param == "repository":
        git.mkdir()
        return git / "index.lock"
    (tmp_path / "elsewhere" / "worktrees" / "site").mkdir(parents=True)
    git.write_text("gitdir: elsewhere/worktrees/site\n")
    return tmp_path / "elsewhere" / "worktrees" / "site" / "index.lock"


def test_git_is_waited_for(
    project: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of(project)
    [*files.snapshot()]

    def begin() -> None:
        lock.touch()
        (project / "views.py").write_text("#" * 10)

    pauses = run_in_pauses(monkeypatch, begin, *[nothing] * 9, lock.unlink)
    [*files.snapshot()]

    assert pauses == [module.PACE] + [module.QUIET] * 10


def test_lock_that_git_has_left_behind_is_not_waited_for(
    project: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock.touch()
    long_ago = time.time() - module.GIT_LIMIT - 1
    os.utime(lock, (long_ago, long_ago))
    files = files_of(project)
    [*files.snapshot()]
    change = partial((project / "views.py").write_text, "#" * 10)
    pauses = run_in_pauses(monkeypatch, change)
    [*files.snapshot()]

    assert pauses == [module.PACE, module.QUIET]


def test_change_that_causes_no_reload_delays_the_next_look(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, pauses = 0.0, []
    file = project / "log.html"
    file.touch()

    def look() -> Iterator[tuple[Path, float]]:
        nonlocal now
        now += 0.004
        yield file, file.stat().st_mtime

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        pauses.append(seconds)
        file.write_text("#" * len(pauses))
        os.utime(file, (now, now))

    files = ProjectFiles(look, 1.0)
    [*files.snapshot()]
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", sleep)
    [*files.snapshot()]
    before = len(pauses)
    [*files.snapshot()]

    assert pauses[0] == module.PACE
    assert pauses[before] == pytest.approx(0.004 * module.SHARE)


def test_without_own_files_looks_are_as_far_apart_as_djangos(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = ProjectFiles(partial(iter, ()), 0.25)
    [*files.snapshot()]
    now, pauses = 0.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        pauses.append(seconds)

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", sleep)
    [*files.snapshot()]
    assert pauses == pytest.approx([0.1, 0.1, 0.05])


@pytest.mark.parametrize("what", ["deleted", "older"])
def test_what_django_does_not_report_is_waited_out_once(
    what: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, other = project / "views.py", project / "models.py"
    other.write_text("")
    files = files_of(project)
    [*files.snapshot()]
    change = file.unlink if what == "deleted" else partial(_make_older, file)
    pauses = run_in_pauses(monkeypatch, change)
    [*files.snapshot()]
    assert len(pauses) == 2

    pauses = run_in_pauses(monkeypatch, nothing, partial(other.write_text, "a"))
    [*files.snapshot()]
    assert len(pauses) == 3


def _make_older(file: Path) -> None:
    os.utime(file, (1, 1))


def test_looks_at_many_files_get_a_share_of_the_time(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of(project)
    [*files.snapshot()]
    spent, paused = 0.0, 0.0

    def look_slowly(known: Any) -> Any:
        nonlocal spent
        spent += 1
        return dict(known)

    def sleep(seconds: float) -> None:
        nonlocal paused
        paused += seconds

    monkeypatch.setattr(module, "look_at", look_slowly)
    monkeypatch.setattr(time, "monotonic", lambda: spent + paused)
    monkeypatch.setattr(time, "sleep", sleep)
    [*files.snapshot()]

    assert spent + paused == pytest.approx(NEVER, abs=1)
    assert 0 < spent <= NEVER / module.SHARE


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (Path("/srv/site/shop/views.py"), True),
        (Path("/srv/venv/lib/python3.13/site-packages/django/apps.py"), False),
        (Path("/usr/lib/python3/dist-packages/django/apps.py"), False),
        (Path(importlib.__file__ or ""), False),
        (Path(__file__), True),
    ],
)
def test_own_files(path: Path, expected: bool) -> None:
    assert is_own(path) is expected


def test_django_reports_a_change_without_its_own_pause(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StatReloader, "SLEEP_TIME", NEVER)
    autoreload_started.connect(look_often)
    reloader = StatReloader()
    reloader.watch_dir(project, "**/*.py")
    autoreload_started.send(sender=reloader)
    found: list[Path] = []

    def note(sender: Any, file_path: Path, **kwargs: Any) -> bool:
        found.append(file_path)
        return True

    file_changed.connect(note)
    try:
        ticker = reloader.tick()
        next(ticker)
        (project / "views.py").write_text("NEWER = 10\n")
        next(ticker)
    finally:
        file_changed.disconnect(note)
    assert found == [project / "views.py"]


@pytest.mark.parametrize("base", [BaseReloader, StatReloader])
def test_other_reloaders_are_left_alone(base: type[BaseReloader]) -> None:
    autoreload_started.connect(look_often)
    reloader = type("OtherReloader", (base,), {})()
    before = dict(vars(reloader))
    autoreload_started.send(sender=reloader)
    assert vars(reloader) == before
