"""The command that makes the variants, as a project calls it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "a.css").write_text("a { color: red }\n" * 100)
    (tmp_path / "b.css").write_text("b { color: red }\n" * 100)
    (tmp_path / "tiny.txt").write_text("a")
    return tmp_path


def compress(*words: str, stdout: io.StringIO | None = None) -> str:
    stdout = stdout or io.StringIO()
    call_command("djserve", "compress", *words, stdout=stdout)
    return stdout.getvalue()


def test_static_root_is_compressed_once(root: Path) -> None:
    with override_settings(STATIC_ROOT=root):
        first, second = compress(), compress()

    assert first.startswith(f"{root}: 2 files compressed, 0 were already, 1 get no")
    assert "4 KiB become 1 KiB" in first
    assert second.startswith(f"{root}: 0 files compressed, 2 were already, 1 get no")
    assert (root / "a.css.br").exists()


def test_terminal_sees_progress(root: Path) -> None:
    text = compress(str(root), stdout=Terminal())

    assert "Compressing: 1 of 3 files\r" in text
    assert "Compressing: 3 of 3 files\r\x1b[K" in text


def test_missing_packages_are_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "brotli", None)

    assert "No .br files: the package brotli is not installed" in compress(str(root))
    assert not (root / "a.css.br").exists()


def test_without_a_folder_it_says_what_lacks(tmp_path: Path) -> None:
    with (
        override_settings(STATIC_ROOT=None),
        pytest.raises(CommandError, match="Set STATIC_ROOT, or name a folder"),
    ):
        compress()
    with pytest.raises(CommandError, match="There is no folder"):
        compress(str(tmp_path / "none"))


def test_file_that_cannot_be_read_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied", "a.css.zst")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(
        CommandError, match=r"Cannot compress \S*a\.css\.zst: Permission"
    ):
        compress(str(root))
