"""When the next certificate is ordered, by a separate process.

``tick`` is called about once a second, by one process of the site. It looks at a clock
and, while an order runs, at whether that has ended: nothing here waits.
"""

# What a renewal must not do
#
# It must not stop the server. An order computes keys and waits for an authority that
# looks at this server from outside; it runs in a process that imports the libraries,
# answers through files in the folder, and ends. After ORDER_TIMEOUT it is killed. No
# failure ends anything else: the certificate in use stays, and the log says when the
# next try is.
#
# It must not use up what the authority allows. Several servers may share a folder: an
# order begins with a lock on it, and with a second look at whether one is still due
# (``order``). Failures in a row double the pause from five minutes to six hours,
# ``Retry-After`` can only make it longer, and a random tenth more or less keeps servers
# apart that have failed together. The pause is kept in the folder, since a supervisor
# that restarts a server every few seconds would otherwise try each time (``backoff``).
#
# It must not depend on this process's memory. When the next order is due is read from
# the certificate itself (``CertificateFolder.due_in``), so a certificate that another
# server has ordered counts, and one with other names than ACME_DOMAINS is due at once.
# A look at the folder each hour is enough to see either.

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from djserve.acme.backoff import OrderBackoff
from djserve.acme.folder import SAME_OWNER, CertificateFolder
from djserve.acme.order import RETRY_AFTER
from djserve.conf.extras import is_installed, missing_package
from djserve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from djserve.acme.folder import Owner
    from djserve.conf.schema_https import ACMEConfig

logger = logging.getLogger("djserve.acme")

# Seconds.
LOOK_INTERVAL = 3600.0
ORDER_TIMEOUT = 600.0

_BOOTSTRAP = (
    "import sys; sys.path[:] = {path!r}; "
    "from djserve.acme.order import main; sys.exit(main())"
)


class Renewal:
    """Order certificates in time, until ``close``. Raises ConfigError.

    ``command`` is what orders one; it gets the configuration at its standard input.
    """

    def __init__(
        self,
        config: ACMEConfig,
        owner: Owner = SAME_OWNER,
        command: Sequence[str] | None = None,
    ) -> None:
        self._config = config
        self._owner = owner
        self._command = command or order_command()
        self._folder = CertificateFolder(config, owner)
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._started = 0.0
        self._next_look: float | None = None
        self._is_closed = False
        if not is_installed("acme"):
            raise missing_package("ACME_DOMAINS", "acme")
        try:
            self._folder.prepare()
        except (OSError, LookupError) as error:
            problem = f"{self._folder.path} cannot be used: {error}"
            raise ConfigError([f"ACME_FOLDER: {problem}"]) from error
        self._backoff = OrderBackoff(self._folder.backoff, config)

    @property
    def pid(self) -> int | None:
        """The process that orders a certificate, None if there is none."""
        return None if self._process is None else self._process.pid

    def tick(self, now: float) -> None:
        """Begin an order that is due, or handle the end of the one that runs."""
        if self._process is not None:
            self._watch(now)
            return
        if self._next_look is None:
            self._next_look = now + self._wait_as_before()
        if now >= self._next_look:
            due = self._folder.due_in()
            if due > 0:
                self._next_look = now + min(due, LOOK_INTERVAL)
            else:
                self._start(now)

    def start(
        self, call_later: Callable[..., object], now: Callable[[], float]
    ) -> None:
        """Tick on an event loop, until ``close``."""
        if not self._is_closed:
            self.tick(now())
            call_later(1.0, self.start, call_later, now)

    def close(self) -> None:
        """Order nothing more; an order that runs is given up."""
        self._is_closed = True
        self._next_look = float("inf")
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            self._close_output()

    def _wait_as_before(self) -> float:
        """Return the seconds that a failure before the start leaves to wait."""
        pause = self._backoff.pause()
        if pause and not self._folder.due_in():
            logger.warning(
                "The last order of a certificate for %s has failed: the next try is "
                "in %d minutes, or at the next start if %s is removed",
                ", ".join(self._config.acme_domains),
                round(pause / 60),
                self._folder.backoff,
            )
        return pause

    def _start(self, now: float) -> None:
        logger.info("Ordering a certificate from %s", self._config.acme_directory)
        given = {
            "config": dataclasses.asdict(self._config),
            "owner": self._owner,
        }
        self._started = now
        try:
            self._output = tempfile.TemporaryFile()  # noqa: SIM115
            with tempfile.TemporaryFile() as file:
                file.write(json.dumps(given).encode())
                file.seek(0)
                self._process = subprocess.Popen(
                    self._command,
                    stdin=file,
                    stdout=self._output,
                    stderr=subprocess.STDOUT,
                )
        except OSError as error:
            # The disk is full, or no process can be made.
            self._close_output()
            self._fail(now, str(error))

    def _watch(self, now: float) -> None:
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            if now - self._started > ORDER_TIMEOUT:
                self._process.kill()
            return
        self._process = None
        lines = self._close_output()
        # The last one of a traceback is its error.
        text = lines[-1] if lines else ""
        if code:
            reason = text or f"the process ended with {code}"
            self._fail(now, reason, _find_retry_after(lines))
            return
        self._backoff.succeed()
        # What it has left in the folder says when the next one is due.
        self._next_look = now + 1
        if text:
            logger.info("%s", text)

    def _fail(self, now: float, reason: str, retry_after: float | None = None) -> None:
        pause = self._backoff.fail(retry_after)
        self._next_look = now + pause
        logger.error(
            "No certificate for %s: %s. The one in use stays; the next try is in %d "
            "minutes",
            ", ".join(self._config.acme_domains),
            reason,
            round(pause / 60),
        )

    def _close_output(self) -> list[str]:
        output, self._output = self._output, None
        if output is None:
            return []
        with output:
            output.seek(0)
            return output.read().decode(errors="replace").strip().splitlines()


def _find_retry_after(lines: Sequence[str]) -> float | None:
    """Return the seconds that the authority asks to wait for, as the order tells."""
    for line in lines:
        if line.startswith(RETRY_AFTER):
            with suppress(ValueError):
                return float(line.removeprefix(RETRY_AFTER))
    return None


def order_command() -> list[str]:
    """Return what orders one certificate in a new process."""
    return [sys.executable, "-c", _BOOTSTRAP.format(path=sys.path)]
