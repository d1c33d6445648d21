"""``manage.py djserve compress``: the variants of the static files, with progress."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import CommandError

from djserve.files.variants import compress_files, find_compressors, find_files

if TYPE_CHECKING:
    import argparse

    from djserve.files.variants import Result

PACKAGES = {".zst": "zstandard", ".br": "brotli"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "folder", nargs="*", help="Folder of the files; default: STATIC_ROOT."
    )


def compress_folders(folders: Sequence[str], stdout: Any) -> None:
    """Make the variants of all files in ``folders``. Raises CommandError."""
    compressors = find_compressors()
    for suffix, package in PACKAGES.items():
        if suffix not in compressors:
            stdout.write(f"No {suffix} files: the package {package} is not installed")
    for folder in folders or [_static_root()]:
        if not os.path.isdir(folder):
            raise CommandError(f"There is no folder {folder}")
        paths = find_files(folder)
        results = []
        try:
            for result in compress_files(paths, compressors):
                results.append(result)
                _show_progress(stdout, len(results), len(paths))
        except OSError as error:
            text = f"Cannot compress {error.filename}: {error.strerror}"
            raise CommandError(text) from error
        stdout.write(_summarise(folder, results))


def _static_root() -> str:
    root: Any = settings.STATIC_ROOT
    if not root:
        raise CommandError("Set STATIC_ROOT, or name a folder")
    return str(root)


def _show_progress(stdout: Any, done: int, count: int) -> None:
    """Write over the last line on a terminal; a log needs the summary alone."""
    if stdout.isatty():
        end = "\r" if done < count else "\r\x1b[K"
        stdout.write(f"Compressing: {done} of {count} files", ending=end)


def _summarise(folder: str, results: Sequence[Result]) -> str:
    made = [each for each in results if each.made]
    current = [each for each in results if each.sizes and not each.made]
    text = f"{folder}: {len(made)} files compressed, {len(current)} were already, "
    text += f"{len(results) - len(made) - len(current)} get no smaller"
    helped = [*made, *current]
    if helped:
        before = sum(each.size for each in helped)
        after = sum(min(each.sizes.values()) for each in helped)
        text += f"; {_kib(before)} become {_kib(after)}"
    return text


def _kib(size: int) -> str:
    return f"{(size + 1023) // 1024:,} KiB"
