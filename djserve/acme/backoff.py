"""When a failed order is tried again, kept in a file over restarts.

A server that is restarted again and again would otherwise use up what an authority
allows. Other names, or another challenge, are another order: what was wrong may be
mended, and they are tried at once.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from typing import TYPE_CHECKING

from djserve.acme.folder import write_file
from djserve.system import read_regular

if TYPE_CHECKING:
    from pathlib import Path

    from djserve.conf.schema_https import ACMEConfig

# Seconds: authorities allow few failures of a name in an hour.
FIRST_PAUSE = 300.0
LONGEST_PAUSE = 6 * 3600.0

# An authority's limits are by the week at the longest.
LONGEST_WAIT = 7 * 86400.0


class OrderBackoff:
    """Failures in a row, and the time before which nothing is ordered.

    Raises nothing: a file that cannot be read or written costs what it would tell.
    """

    def __init__(self, path: Path, config: ACMEConfig) -> None:
        self._path = path
        self._order = _describe(config)
        self._failures = 0
        self._until = 0.0
        self._read()

    def pause(self) -> float:
        """Return the seconds that are left of it."""
        # A clock that was wrong when the file was written does not stop us for good.
        return min(max(0.0, self._until - time.time()), LONGEST_WAIT)

    def fail(self, retry_after: float | None = None) -> float:
        """Count a failure; return the seconds until the next try.

        ``retry_after`` is what the authority asks for; less than ours is not taken.
        """
        self._failures += 1
        pause = min(FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10), LONGEST_PAUSE)
        # Not all servers that failed together try again together.
        pause *= random.uniform(0.9, 1.1)
        if retry_after is not None:
            pause = max(pause, min(retry_after, LONGEST_WAIT))
        self._until = time.time() + pause
        self._write()
        return pause

    def succeed(self) -> None:
        """Forget the failures."""
        self._failures, self._until = 0, 0.0
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return

    def _read(self) -> None:
        try:
            state = json.loads(read_regular(self._path))
            if state["order"] == self._order:
                failures, until = int(state["failures"]), float(state["until"])
                self._failures, self._until = max(0, failures), until
        except (OSError, ValueError, LookupError, TypeError, OverflowError):
            return

    def _write(self) -> None:
        state = {
            "order": self._order,
            "failures": self._failures,
            "until": self._until,
        }
        try:
            write_file(self._path, json.dumps(state).encode())
        except OSError:
            return


def _describe(config: ACMEConfig) -> str:
    """Return what an order is known by again."""
    names = sorted(name.lower() for name in config.acme_domains)
    text = json.dumps([names, config.acme_challenge, config.acme_email])
    return hashlib.sha256(text.encode()).hexdigest()
