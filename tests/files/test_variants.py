"""Variants on a disk, and the table that has to take them."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from djserve.files import FileTable, Folder, variants
from djserve.files.variants import (
    Result,
    compress_files,
    find_compressors,
    find_files,
)
from tests.support.decoding import open_decoder

TEXT = b"body { color: red; margin: 0 }\n" * 100
SUFFIXES = [".zst", ".br", ".gz"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.css").write_bytes(TEXT)
    (tmp_path / "noise.bin").write_bytes(os.urandom(3000))
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "photo.PNG").write_bytes(TEXT)
    (tmp_path / ".hidden").write_bytes(TEXT)
    (tmp_path / "link.css").symlink_to(tmp_path / "deep" / "a.css")
    return tmp_path


def run(root: Path) -> dict[str, Result]:
    results = compress_files(find_files(str(root)), find_compressors())
    return {os.path.relpath(each.path, root): each for each in results}


def test_variants_come_back_and_the_table_takes_them(root: Path) -> None:
    file = root / "deep" / "a.css"
    os.utime(file, (1_000_000_000, 1_000_000_000))
    file.chmod(0o640)
    results = run(root)

    assert set(results) == {"deep/a.css", "noise.bin", "empty.txt"}
    assert results["deep/a.css"].made == SUFFIXES
    assert results["noise.bin"].sizes == results["empty.txt"].sizes == {}
    for suffix, coding in zip(SUFFIXES, ("zstd", "br", "gzip"), strict=True):
        variant = root / "deep" / f"a.css{suffix}"
        assert open_decoder(coding)(variant.read_bytes()) == TEXT
        assert stat.S_IMODE(variant.stat().st_mode) == 0o640
        assert variant.stat().st_mtime == 1_000_000_000
    table = FileTable([Folder(prefixes=("/s/",), path=str(root))])
    found = table.find(b"/s/deep/a.css")
    assert found is not None
    codings = [each.encoding for each in found.representations]
    assert codings == [b"", b"zstd", b"br", b"gzip"]
    names = sorted(path.name for path in root.rglob("*") if path.is_file())
    assert not [name for name in names if name[0] == "." and name != ".hidden"]


def test_second_run_makes_what_has_changed(root: Path) -> None:
    run(root)
    again = run(root)["deep/a.css"]
    assert again.made == []
    assert set(again.sizes) == set(SUFFIXES)

    file = root / "deep" / "a.css"
    file.write_bytes(TEXT * 2)
    later = file.stat().st_mtime + 10
    os.utime(file, (later, later))
    assert run(root)["deep/a.css"].made == SUFFIXES
    data = (root / "deep" / "a.css.gz").read_bytes()
    assert open_decoder("gzip")(data) == TEXT * 2


def test_name_without_room_for_a_suffix_stops_no_others(root: Path) -> None:
    # 255 bytes is what file systems take; the first has room for ".br" and ".gz".
    (root / "deep" / f"{'x' * 248}.css").write_bytes(TEXT)
    (root / "deep" / f"{'y' * 250}.css").write_bytes(TEXT)
    results = run(root)

    assert results["deep/a.css"].made == SUFFIXES
    assert results[f"deep/{'x' * 248}.css"].made == [".br", ".gz"]
    assert results[f"deep/{'y' * 250}.css"].made == []


def test_variant_that_has_become_useless_goes(root: Path) -> None:
    run(root)
    file = root / "deep" / "a.css"
    file.write_bytes(os.urandom(500))
    later = file.stat().st_mtime + 10
    os.utime(file, (later, later))
    run(root)

    assert [path.name for path in (root / "deep").iterdir()] == ["a.css"]


def test_gzip_is_there_without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("brotli", "zstandard", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)

    assert list(find_compressors()) == [".gz"]


def test_file_that_cannot_be_written_is_an_error(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied", "a.css.zst")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        run(root)
    left = [path.name for path in (root / "deep").iterdir()]
    assert left == ["a.css"]


def test_file_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk names none."""

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(variants, "replace_file", fail)
    path = tmp_path / "a.css"
    path.write_bytes(b"a" * 5000)

    with pytest.raises(OSError, match="No space left") as caught:
        list(compress_files([str(path)], find_compressors()))
    assert str(caught.value.filename).startswith(f"{path}.")
