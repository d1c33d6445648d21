from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest
from django.test import override_settings

from djserve.management.settings_errors import (
    SettingsWatch,
    are_settings_broken,
    is_parent,
)

TIMEOUT = 60


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of settings, by which new processes find their project."""
    file = tmp_path / "shop_settings.py"
    file.write_text("SECRET_KEY = 'a'\n")
    module = ModuleType("shop_settings")
    module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "shop_settings", module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "shop_settings")
    return file


@pytest.mark.parametrize(("value", "expected"), [(None, True), ("true", False)])
def test_reloader_s_child_is_told_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, value: str | None, expected: bool
) -> None:
    monkeypatch.delenv("RUN_MAIN", raising=False)
    if value is not None:
        monkeypatch.setenv("RUN_MAIN", value)

    assert is_parent() is expected


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("A = 1", False),
        ("def (", True),
        ("import nothing_there", True),
        ("from django.core.exceptions import *; raise ImproperlyConfigured", True),
        ("raise SystemExit(1)", True),
    ],
    ids=["good", "syntax", "import", "configuration", "exit"],
)
def test_settings_are_tried_in_a_new_process(
    settings_file: Path, line: str, expected: bool
) -> None:
    settings_file.write_text(f"{line}\n")

    assert are_settings_broken() is expected


@pytest.mark.parametrize("name", ["shop_settings.py", "new.py"])
def test_change_of_a_file_beside_the_settings_ends_the_wait(
    settings_file: Path, name: str
) -> None:
    with override_settings(SETTINGS_MODULE="shop_settings"):
        watch = SettingsWatch()
    waiting = threading.Thread(target=watch.wait, daemon=True)
    waiting.start()
    changed = settings_file.with_name(name)
    changed.write_text("A = 2\n")
    later = settings_file.stat().st_mtime + 5
    os.utime(changed, (later, later))

    waiting.join(TIMEOUT)
    assert not waiting.is_alive()


def test_change_before_the_wait_is_not_missed(settings_file: Path) -> None:
    with override_settings(SETTINGS_MODULE="shop_settings"):
        watch = SettingsWatch()
    later = settings_file.stat().st_mtime + 5
    os.utime(settings_file, (later, later))

    watch.wait()
