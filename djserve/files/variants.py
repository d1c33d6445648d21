"""Compressed variants of a folder's files, made beforehand at the best levels.

A variant gets its file's time and mode, so that ``files.table`` takes it until the file
changes. It is written under another name first: a server may be reading.
"""

from __future__ import annotations

import errno
import gzip
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from djserve.cpus import count_cpus
from djserve.files.table import STALE_AFTER
from djserve.system import replace_file

COMPRESSED_ALREADY = frozenset(
    {
        *(".7z", ".apk", ".avif", ".br", ".bz2", ".flac", ".gif", ".gz", ".heic"),
        *(".jpeg", ".jpg", ".m4a", ".m4v", ".mov", ".mp3", ".mp4", ".mpg", ".ogg"),
        *(".ogv", ".opus", ".png", ".rar", ".tgz", ".webm", ".webp", ".woff"),
        *(".woff2", ".xz", ".zip", ".zst", ".zstd"),
    }
)
"""Suffixes of files that are not worth trying."""

WORTH = 0.95
"""Share of a file's size up to which a variant is kept."""

_ZSTD_LEVEL = 19
_BROTLI_QUALITY = 11
_GZIP_LEVEL = 9

Compress = Callable[[bytes], bytes]


@dataclass(slots=True)
class Result:
    """What was done for one file: its size, and that of each variant it has now.

    ``made`` are the suffixes written this time.
    """

    path: str
    size: int
    sizes: dict[str, int]
    made: list[str]


def find_compressors() -> dict[str, Compress]:
    """Return what makes each variant that can be made, by its suffix."""
    found: dict[str, Compress] = {}
    zstd = _find_module("compression.zstd", "zstandard")
    if zstd is not None:
        found[".zst"] = lambda data: zstd.compress(data, _ZSTD_LEVEL)
    brotli = _find_module("brotli")
    if brotli is not None:
        found[".br"] = lambda data: brotli.compress(data, quality=_BROTLI_QUALITY)
    # Without the time, the same file has the same variant.
    found[".gz"] = lambda data: gzip.compress(data, _GZIP_LEVEL, mtime=0)
    return found


def find_files(folder: str) -> list[str]:
    """Return the paths of the files that may have variants, links left out."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(
            each for each in folders if each[0] != "." or each == ".well-known"
        )
        for name in sorted(names):
            if (
                name[0] == "."
                or os.path.splitext(name)[1].lower() in COMPRESSED_ALREADY
            ):
                continue
            path = os.path.join(parent, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                found.append(path)
    return found


def compress_files(
    paths: Iterable[str], compressors: dict[str, Compress]
) -> Iterator[Result]:
    """Make the variants that lack or are older than their file; yield in order.

    In as many threads as there are CPUs to use: the compressors release the lock.
    Raises OSError for what cannot be read or written.
    """
    with ThreadPoolExecutor(count_cpus()) as pool:
        try:
            yield from pool.map(lambda path: _compress(path, compressors), paths)
        finally:
            pool.shutdown(cancel_futures=True)


def _compress(path: str, compressors: dict[str, Compress]) -> Result:
    status = os.stat(path)
    result = Result(path, status.st_size, {}, [])
    content: bytes | None = None
    for suffix, compress in compressors.items():
        target = path + suffix
        if _is_too_long(target):
            continue
        current = _current_size(target, status)
        if current is not None:
            result.sizes[suffix] = current
            continue
        if content is None:
            with open(path, "rb") as file:
                content = file.read()
        data = compress(content)
        if len(data) > len(content) * WORTH:
            _remove(target)
            continue
        _write(target, data, status)
        result.sizes[suffix] = len(data)
        result.made.append(suffix)
    return result


def _is_too_long(target: str) -> bool:
    """Return whether the file system has no room for a variant's name."""
    try:
        os.lstat(target)
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False


def _current_size(target: str, plain: os.stat_result) -> int | None:
    """Return the size of a variant that the table would take, else None."""
    try:
        status = os.lstat(target)
    except OSError:
        return None
    is_current = (
        stat.S_ISREG(status.st_mode)
        and status.st_mtime_ns + STALE_AFTER >= plain.st_mtime_ns
        and status.st_size < plain.st_size
    )
    return status.st_size if is_current else None


def _write(target: str, data: bytes, plain: os.stat_result) -> None:
    def prepare(hidden: str) -> None:
        os.chmod(hidden, stat.S_IMODE(plain.st_mode))
        os.utime(hidden, ns=(plain.st_atime_ns, plain.st_mtime_ns))

    # While it is written its name has a dot in front, which is never served.
    try:
        replace_file(target, data, prepare)
    except OSError as error:
        # A full disk has no name.
        raise OSError(error.errno, error.strerror, target) from error


def _remove(path: str) -> None:
    """Remove what is of no use: of an earlier content, or half written."""
    if os.path.lexists(path):
        os.remove(path)


def _find_module(*names: str) -> Any:
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    return None
