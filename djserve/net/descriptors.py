"""File descriptors: as many as the system lets be, and whether any are left."""

from __future__ import annotations

import errno
import logging
import os
from typing import Any, Protocol
from weakref import WeakSet

from djserve.system import READ

resource: Any
try:
    import resource
except ImportError:  # pragma: no cover - Windows has no such limit
    resource = None

logger = logging.getLogger("djserve.net")

_LOG_INTERVAL = 60.0
_SHORTAGES = {
    errno.EMFILE: "the process has as many as it may have (RLIMIT_NOFILE, ulimit -n)",
    errno.ENFILE: "the system has as many as it may have (fs.file-max)",
}


def raise_descriptor_limit() -> None:
    """Raise the soft limit to the hard one, which needs no privilege.

    Most systems give 1,024, for the sake of programs that use ``select``.
    """
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        # macOS takes no more than OPEN_MAX, whatever it names as its hard limit.
        logger.debug("The limit of file descriptors stays at %d: %s", soft, error)
    else:
        logger.debug("Raised the limit of file descriptors from %d to %d", soft, hard)


class ToldOfShortages(Protocol):
    """What accepts in another manner while descriptors are short."""

    def set_short(self, is_short: bool) -> None: ...


class DescriptorWatch:
    """Look once a second whether a descriptor is left (interfaces.Ticking).

    uvloop says nothing when there is none: libuv accepts and closes what waits. Those
    in ``accepting`` are told that there is a shortage until none was seen for a while.
    """

    def __init__(self) -> None:
        self.accepting: WeakSet[ToldOfShortages] = WeakSet()
        self._next_log = 0.0
        self._short_until = 0.0

    def tick(self, now: float) -> None:
        """Look, and warn of a shortage once in a while."""
        reason = _find_shortage()
        if reason:
            self._short_until = now + _LOG_INTERVAL
            self._log(reason, now)
        for one in self.accepting:
            one.set_short(now < self._short_until)

    def _log(self, reason: str, now: float) -> None:
        if now >= self._next_log:
            self._next_log = now + _LOG_INTERVAL
            logger.warning(
                "No file descriptors are left, and new connections wait or are "
                "reset: %s",
                reason,
            )


def _find_shortage() -> str:
    """Return why no descriptor is left, "" if one is."""
    try:
        os.close(os.open(os.devnull, READ))
    except OSError as error:
        return _SHORTAGES.get(error.errno or 0, "")
    return ""
