"""When the next certificate is ordered, by a process beside the server.

``tick`` is called about once a second, by one process of the site. It looks at a clock
and, while an order runs, at whether that has ended: nothing here waits.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import random
import subprocess
import sys
import tempfile
from typing import IO, TYPE_CHECKING

from djserve.acme.folder import SAME_OWNER, CertificateFolder
from djserve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from djserve.acme.folder import Owner
    from djserve.conf.schema_https import ACMEConfig

logger = logging.getLogger("djserve.acme")

# Seconds: authorities allow few failures of a name in an hour.
FIRST_PAUSE = 300.0
LONGEST_PAUSE = 6 * 3600.0
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
        self._next_look = 0.0
        self._failures = 0
        self._is_closed = False
        if importlib.util.find_spec("acme") is None:
            problem = 'the package "acme" is missing; install "djserve[acme]"'
            raise ConfigError([f"ACME_DOMAINS: {problem}"])
        try:
            self._folder.prepare()
        except (OSError, LookupError) as error:
            problem = f"{self._folder.path} cannot be used: {error}"
            raise ConfigError([f"ACME_FOLDER: {problem}"]) from error

    @property
    def pid(self) -> int | None:
        """The process that orders a certificate, None if there is none."""
        return None if self._process is None else self._process.pid

    def tick(self, now: float) -> None:
        """Begin an order that is due, or handle the end of the one that runs."""
        if self._process is not None:
            self._watch(now)
        elif now >= self._next_look:
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

    def _start(self, now: float) -> None:
        logger.info("Ordering a certificate from %s", self._config.acme_directory)
        given = {
            "config": dataclasses.asdict(self._config),
            "owner": self._owner,
        }
        self._started = now
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(given).encode())
            file.seek(0)
            try:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=file,
                    stdout=self._output,
                    stderr=subprocess.STDOUT,
                )
            except OSError as error:
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
        text = self._close_output()
        if code:
            self._fail(now, text or f"the process ended with {code}")
            return
        self._failures = 0
        # What it has left in the folder says when the next one is due.
        self._next_look = now + 1
        if text:
            logger.info("%s", text)

    def _fail(self, now: float, reason: str) -> None:
        self._failures += 1
        pause = min(FIRST_PAUSE * 2 ** (self._failures - 1), LONGEST_PAUSE)
        # Not all servers that failed together try again together.
        pause *= random.uniform(0.9, 1.1)
        self._next_look = now + pause
        logger.error(
            "No certificate for %s: %s. The one in use stays; the next try is in %d "
            "minutes",
            ", ".join(self._config.acme_domains),
            reason,
            round(pause / 60),
        )

    def _close_output(self) -> str:
        output, self._output = self._output, None
        if output is None:
            return ""
        with output:
            output.seek(0)
            lines = output.read().decode(errors="replace").strip().splitlines()
        # The last one of a traceback is its error.
        return lines[-1] if lines else ""


def order_command() -> list[str]:
    """Return what orders one certificate in a new process."""
    return [sys.executable, "-c", _BOOTSTRAP.format(path=sys.path)]
