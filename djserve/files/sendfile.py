"""A file's bytes from the page cache to a socket, without a copy (sendfile(2)).

It would wait for a disk, so the kernel is asked first what its cache has (cachestat(2),
Linux 6.5). Everywhere else, and for whatever is not cached, nothing is sent, and the
bytes are to be read and written.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable
from functools import cache

# The number is the same on these; no libc has a function for it yet.
_CACHESTAT = 451
_MACHINES = ("aarch64", "ppc64le", "riscv64", "s390x", "x86_64")


class DirectSender:
    """Send parts of files to a socket that belongs to a transport.

    Only if all that was written to the transport has been sent. The descriptor is a
    duplicate: once the transport has closed its own, that number may be another
    client's.
    """

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)

    def send(self, file: int, position: int, size: int) -> int:
        """Send at most ``size`` bytes of a file; return how many the socket took.

        0 as well if it is broken, which its transport will find.
        """
        try:
            return os.sendfile(self._descriptor, file, position, size)
        except OSError:
            return 0

    def close(self) -> None:
        """Close the duplicate."""
        os.close(self._descriptor)


def is_cached(file: int, position: int, size: int) -> bool:
    """Return whether the page cache has all of a part of a file.

    False as well if the system cannot tell.
    """
    count = _find_counter()
    if count is None:
        return False
    begin = position - position % mmap.PAGESIZE
    pages = -(-(position + size - begin) // mmap.PAGESIZE)
    return count(file, begin, pages * mmap.PAGESIZE) == pages


@cache
def _find_counter() -> Callable[[int, int, int], int] | None:
    """Return what counts the cached pages of a file's part, -1 if it cannot be told."""
    if sys.platform != "linux" or os.uname().machine not in _MACHINES:
        return None
    # Only now: most servers send no long file.
    import ctypes

    syscall = ctypes.CDLL(None).syscall
    part_type, found_type = ctypes.c_uint64 * 2, ctypes.c_uint64 * 5

    def count(file: int, begin: int, size: int) -> int:
        found = found_type()
        part = ctypes.byref(part_type(begin, size))
        failed = syscall(_CACHESTAT, file, part, ctypes.byref(found), 0)
        return -1 if failed else found[0]

    return count
