"""What operating systems have under different names or not at all, and whole files.

No file that a setting names is waited for: a FIFO has no size and, often, no other end.
"""

from __future__ import annotations

import _thread
import errno
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

resource: Any
try:
    import resource
except ImportError:  # pragma: no cover - Windows has no such limit
    resource = None

CAN_FORK = hasattr(os, "fork") and hasattr(os, "register_at_fork")
"""Whether processes can be forked, and with that be workers: not on Windows."""

SYSTEM = {"win32": "Windows", "darwin": "macOS"}.get(sys.platform, sys.platform)
"""The system's name, for messages."""


def _flag(name: str) -> int:
    flag: int = getattr(os, name, 0)
    return flag


CLOSE_ON_EXEC = _flag("O_CLOEXEC")
"""For ``os.open``; nothing is inherited on Windows anyway (PEP 446)."""

NO_FOLLOW = _flag("O_NOFOLLOW")

_AT_ONCE = _flag("O_NONBLOCK") | CLOSE_ON_EXEC | _flag("O_BINARY")

READ = os.O_RDONLY | _AT_ONCE
"""To read a file: a FIFO in its place does not block, and no byte is translated."""

WRITE = os.O_WRONLY | _AT_ONCE
"""To write to a file; the open fails for a FIFO that no process reads (ENXIO)."""

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a block device"),
)


_LEAST_FILES = 8


def descriptor_limit() -> int | None:
    """Return how many descriptors this process may have; None for no limit."""
    if resource is None:
        return None
    soft: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def open_file_limit() -> int | None:
    """Return how many files may stay open for clients that do not read."""
    descriptors = descriptor_limit()
    return None if descriptors is None else max(_LEAST_FILES, descriptors // 40)


def _file_kind(mode: int) -> str:
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "")


def open_regular(
    path: str | os.PathLike[str], flags: int = READ, mode: int = 0o666
) -> int:
    """Open a regular file, or the null device, and return its descriptor.

    Raises OSError, whose ``strerror`` says what is in its place: the open of a FIFO
    waits for its other end, and a device's content may have no end.
    """
    try:
        _require_regular(os.stat(path), path)
    except FileNotFoundError:
        # Perhaps it is to be made.
        pass
    descriptor = os.open(path, flags | _AT_ONCE, mode)
    try:
        _require_regular(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    kind = _file_kind(status.st_mode)
    if not kind or os.path.samestat(status, os.stat(os.devnull)):
        return
    raise OSError(errno.EINVAL, f"it is {kind}", os.fspath(path))


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Return a regular file's content. Raises OSError as ``open_regular`` does."""
    with open(open_regular(path), "rb") as file:
        return file.read()


_FLUSH_TIMEOUT = 1.0


def end_process(exit_code: int) -> None:
    """End at once, with what was printed: no thread, handler or ``finally`` is run."""
    ended = _thread.allocate_lock()
    ended.acquire()
    with suppress(RuntimeError):
        # In a thread of its own, since a stream can be in use: by what a signal handler
        # has interrupted, or by a thread that writes to a pipe which nothing reads. Not
        # by ``threading``, whose locks what was interrupted may hold as well.
        _thread.start_new_thread(_flush, (ended,))
        ended.acquire(timeout=_FLUSH_TIMEOUT)
    os._exit(exit_code)


def _flush(ended: _thread.LockType) -> None:
    for stream in (sys.stdout, sys.stderr):
        # RuntimeError: Python has begun to end.
        with suppress(AttributeError, OSError, RuntimeError, ValueError):
            stream.flush()
    ended.release()


_seek_lock = threading.Lock()


def _seek_and_read(descriptor: int, size: int, offset: int) -> bytes:
    """Do as ``pread``, for one thread at a time; the file's own position stays."""
    with _seek_lock:
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        try:
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.read(descriptor, size)
        finally:
            os.lseek(descriptor, position, os.SEEK_SET)


read_at: Any = getattr(os, "pread", _seek_and_read)
"""``os.pread(descriptor, size, offset)``."""


def replace_file(
    path: str | os.PathLike[str],
    data: bytes,
    prepare: Callable[[str], object] | None = None,
    *,
    is_durable: bool = False,
) -> None:
    """Write a file next to ``path``, and give it that name when it is complete.

    A reader gets the old content or the new one, never a part. Only this user may read
    the new file until ``prepare`` has given it its mode and owner; its own name has a
    dot in front. With ``is_durable`` it is on the disk when this returns.
    """
    import tempfile

    folder, name = os.path.split(path)
    # Cut: a name may be as long as the file system takes, 255 bytes at most.
    hidden_name = f".{os.fsdecode(name)[:32]}."
    descriptor, hidden = tempfile.mkstemp(dir=folder or ".", prefix=hidden_name)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            if is_durable:
                file.flush()
                os.fsync(descriptor)
        if prepare is not None:
            prepare(hidden)
        os.replace(hidden, path)
    except BaseException:
        try:
            os.unlink(hidden)
        except OSError:
            pass
        raise


def is_real_interrupt() -> bool:
    """Return whether a Ctrl-C raises KeyboardInterrupt in this thread."""
    return (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
