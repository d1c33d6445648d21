"""What a serving process keeps from the processes that its application forks.

A forked child has copies of all descriptors, and the parent's signal handling. Left
alone, it would hold the port after the server's end, keep clients from seeing the end
of their connections, and pass its own signal on to the parent. ``subprocess``
closes descriptors by itself; ``os.fork`` and ``multiprocessing`` do not.
"""

# What a fork shares, and what that would do
#
# A child has the same open files, not other ones of the same name. What it does to
# them, or leaves undone, happens to the server:
#
# - A listening socket stays open while any process has it. After the server's end the
#   kernel would take connections, and nothing would ever accept them; a restart finds
#   the port in use.
# - A connection ends for the client when its last copy is closed. A response that ends
#   by closing would seem never to end.
# - The set of an epoll descriptor is one for both. A child that closes its loop takes
#   the parent's sockets out of it, and the parent then waits for events that never
#   come.
# - The memory that io_uring shares with the kernel is no copy either, so it is kept out
#   of the child before the fork: afterwards it would be too late.
# - The wakeup descriptor of signals leads into the parent's loop, so a SIGTERM for the
#   child would stop the server.
#
# Sockets are found by the address that they are bound to, and not by a list:
# connections come and go far more often than anything forks, and a list would cost each
# of them. They are covered (``dup2``) and not closed, since objects that name them are
# still there, and would close whatever has that number next. The application's own
# connections, to its database for one, are not touched: what to do with those is for
# the application to know, as after any fork.

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import socket
import stat
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from djserve.net.sockets import UNIX, socket_address
from djserve.system import CLOSE_ON_EXEC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Self

logger = logging.getLogger("djserve")

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGCONT")
    if hasattr(signal, name)
)
"""What servers and workers handle; a child has the default action again."""

LOG_TIMEOUT = 1.0
"""Seconds that a child's last line in the log may take."""

MADV_DONTFORK = 10

_FOLDERS = ("/proc/self/fd", "/dev/fd")
_FAMILIES = (socket.AF_INET, socket.AF_INET6, UNIX)
_TYPES = (socket.SOCK_STREAM, socket.SOCK_DGRAM)

_guards: list[ForkGuard] = []
_is_registered = False
_is_own_fork = False
_is_stray = False


class ForkGuard:
    """Take from children what belongs to one server, between ``start`` and ``stop``.

    ``addresses`` returns the texts of the addresses that are listened on: a child has
    neither their sockets nor the connections that these accepted. ``descriptors`` are
    sockets that it does not have either. ``loop`` is run by the thread that
    starts the guard.
    """

    def __init__(
        self,
        addresses: Callable[[], Iterable[str]],
        *,
        descriptors: Iterable[int] = (),
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.addresses = addresses
        # Numbers are used again once a socket is closed; inodes of sockets are not.
        self.inodes = {_identify(os.fstat(number)) for number in descriptors}
        self._loop = loop
        self._thread = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Take it from the children to come."""
        self._thread = threading.get_ident()
        _register()
        _guards.append(self)

    def stop(self) -> None:
        """Leave it to the children to come."""
        # A child has no guards any more.
        if self in _guards:
            _guards.remove(self)

    @property
    def has_loop(self) -> bool:
        """Whether a loop is the server's, which no child can run."""
        return self._loop is not None

    def detach_loop(self) -> None:
        """Part a child's copy of the loop from the parent's, and let it not run on."""
        loop: Any = self._loop
        if loop is None:
            return
        _replace_epoll(loop)
        loop.call_soon_threadsafe = _refuse_call
        if threading.get_ident() == self._thread:
            # The code that forked is expected to end the child before the loop's turn.
            loop.call_soon(end_stray_child)


def name_sockets(descriptors: Iterable[int]) -> list[str]:
    """Return the addresses that sockets are bound to, for a guard."""
    return [_name(number) for number in descriptors]


@contextmanager
def own_fork() -> Iterator[None]:
    """Leave a child everything: it is a process of the server's."""
    global _is_own_fork
    _is_own_fork = True
    try:
        yield
    finally:
        _is_own_fork = False


def end_stray_child() -> None:
    """End this process if it is a child that has returned to the server's code.

    It would never end: neither the loop nor the other threads exist in it.
    """
    if _is_stray:
        # A handler may wait for a lock that a thread of the parent had.
        thread = threading.Thread(target=_log_stray_child, daemon=True)
        try:
            thread.start()
            thread.join(LOG_TIMEOUT)
        finally:
            os._exit(1)


def _log_stray_child() -> None:
    logger.error(
        "Process %d, which the application forked, returned to the server and is "
        "ended; it should end by os._exit()",
        os.getpid(),
    )


def _refuse_call(*args: object, **options: object) -> NoReturn:
    raise RuntimeError(
        "This process was forked from a server, and the event loop is its parent's"
    )


def _register() -> None:
    global _is_registered
    if not _is_registered and hasattr(os, "register_at_fork"):
        _is_registered = True
        os.register_at_fork(before=_prepare, after_in_child=_part)


def _prepare() -> None:
    """Keep, in the parent, what a child is not to have a copy of."""
    if any(guard.has_loop for guard in _guards):
        _keep_rings()


def _part() -> None:
    """Give up, in a new child, what is the parent's."""
    global _is_stray
    if _is_own_fork or not _guards:
        return
    _is_stray = any(guard.has_loop for guard in _guards)
    _reset_signals()
    _close_parents()
    for guard in _guards:
        guard.detach_loop()
    _guards.clear()


def _reset_signals() -> None:
    """Undo the loop's signal handling: it would tell the parent's loop of signals."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if callable(signal.getsignal(number)):
            is_interrupt = number == signal.SIGINT
            default = signal.default_int_handler if is_interrupt else signal.SIG_DFL
            signal.signal(number, default)


def _close_parents() -> None:
    """Close the parent's sockets; their numbers stay taken.

    Objects that still name them, closed by the garbage collector for example, would
    close what the child has opened since.
    """
    addresses = {text for guard in _guards for text in guard.addresses()}
    inodes = {inode for guard in _guards for inode in guard.inodes}
    null = os.open(os.devnull, os.O_RDWR | CLOSE_ON_EXEC)
    for number in _list_descriptors():
        try:
            info = os.fstat(number)
            if stat.S_ISSOCK(info.st_mode) and (
                _identify(info) in inodes or _is_bound_to(number, addresses)
            ):
                os.dup2(null, number, inheritable=False)
        except (OSError, ValueError):
            # Closed already, or of a family that no server listens on.
            continue
    os.close(null)


def _list_descriptors() -> list[int]:
    for folder in _FOLDERS:
        try:
            return [int(name) for name in os.listdir(folder)]
        except OSError:
            continue
    return []


def _identify(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


def _is_bound_to(number: int, addresses: set[str]) -> bool:
    """Return whether a socket listens on one of the addresses, or was accepted there.

    The local name of a socket is the listening address for both, or one that a
    wildcard stands for.
    """
    text = _name(number)
    host, _, port = text.rpartition(":")
    wildcard = "[::]" if host.startswith("[") else "0.0.0.0"
    return text in addresses or f"{wildcard}:{port}" in addresses


def _name(number: int) -> str:
    """Return the text of the address that a socket is bound to, else "".

    A UDP socket for HTTP/3 has the address of the TCP socket beside it.
    """
    sock = socket.socket(fileno=number)
    try:
        if sock.family in _FAMILIES and sock.type in _TYPES:
            return socket_address(sock)
        return ""
    finally:
        sock.detach()


def _replace_epoll(loop: Any) -> None:
    """Give a loop a new epoll descriptor: changes to the old one are the parent's too.

    A kqueue is not inherited.
    """
    if not hasattr(select, "epoll"):
        return
    if hasattr(loop, "_get_backend_id"):
        number = loop._get_backend_id()
    else:
        fileno = getattr(getattr(loop, "_selector", None), "fileno", lambda: -1)
        number = fileno()
    if number >= 0:
        with select.epoll() as fresh:
            os.dup2(fresh.fileno(), number, inheritable=False)


def _keep_rings() -> None:
    """Let children have no copy of the memory that io_uring shares with the kernel.

    libuv has it, and what a child did there would be done for the parent.
    """
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            spans = [line.split(" ", 1)[0] for line in file if "[io_uring]" in line]
    except OSError:
        return
    # Only now: it is slow to import, and most servers fork nothing.
    import ctypes

    madvise: Any = getattr(ctypes.CDLL(None), "madvise", None)
    for span in spans:
        begin, end = (int(text, 16) for text in span.split("-"))
        size = end - begin
        madvise(ctypes.c_void_p(begin), ctypes.c_size_t(size), MADV_DONTFORK)
