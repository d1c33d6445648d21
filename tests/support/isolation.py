"""What a test of a unit may not do: connect, listen, look up a name, start a process.

Such a test carries the marker ``e2e``, its own or its module's. An audit hook sees what
Python's own functions do. It does not see what extensions do by themselves, such as
libpq's connections; event loops' socket pairs lead nowhere and are free.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

WATCHED = frozenset(
    {
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.system",
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "subprocess.Popen",
    }
)

_found: list[str] | None = None
_is_installed = False
_own_thread = 0
_older_threads: set[int] | None = None


def _note(event: str, args: object) -> None:
    if _found is None or event not in WATCHED:
        return
    thread = threading.get_ident()
    is_new = _older_threads is not None and thread not in _older_threads
    if thread == _own_thread or is_new:
        _found.append(event)


@contextmanager
def watching(in_new_threads: bool = True) -> Iterator[list[str]]:
    """Give a list of what the block does of it, without what older threads do."""
    global _found, _is_installed, _own_thread, _older_threads
    if not _is_installed:
        # It stays for as long as the process.
        sys.addaudithook(_note)
        _is_installed = True
    _own_thread = threading.get_ident()
    _older_threads = None
    if in_new_threads:
        _older_threads = {each.ident or 0 for each in threading.enumerate()}
    found: list[str] = []
    _found = found
    try:
        yield found
    finally:
        _found = None
