"""What operating systems have under different names, or not at all."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

CAN_FORK = hasattr(os, "fork")
"""Whether processes can be forked, and with that be workers: not on Windows."""

SYSTEM = {"win32": "Windows", "darwin": "macOS"}.get(sys.platform, sys.platform)
"""The system's name, for messages."""


def _flag(name: str) -> int:
    flag: int = getattr(os, name, 0)
    return flag


CLOSE_ON_EXEC = _flag("O_CLOEXEC")
"""For ``os.open``; nothing is inherited on Windows anyway (PEP 446)."""

NO_FOLLOW = _flag("O_NOFOLLOW")

READ = os.O_RDONLY | _flag("O_NONBLOCK") | CLOSE_ON_EXEC | _flag("O_BINARY")
"""To read a file: a FIFO in its place does not block, and no byte is translated."""

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
