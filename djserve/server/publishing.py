"""Figures that are sent away from time to time: to StatsD, and over OTLP.

Each receiver has a thread of the process that knows the figures of all: whatever the
receiver does, no request waits for it.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Protocol

from djserve.instrumentation.statsd import StatsD
from djserve.net.datagrams import DatagramReceiver, send_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from djserve.conf.schema_process import MetricsConfig
    from djserve.instrumentation.figures import Family

logger = logging.getLogger("djserve.metrics")

LAST_TIMEOUT = 2.0
"""Seconds at the end for the last figures to be sent."""


class Sink(Protocol):
    """One receiver of figures; called from one thread."""

    name: str
    interval: float

    def send(self, families: Sequence[Family]) -> None:
        """Send the figures as they are now; raises nothing for a receiver's sake."""

    def close(self) -> None: ...


class StatsDSink:
    """Send figures to a receiver of StatsD."""

    name = "StatsD"

    def __init__(self, address: str, config: MetricsConfig) -> None:
        self.interval = config.statsd_interval
        self._address = address
        self._receiver = DatagramReceiver(address)
        self._statsd = StatsD(
            config.statsd_prefix, config.statsd_tags, with_tags=config.dogstatsd
        )
        self._problem = ""

    def send(self, families: Sequence[Family]) -> None:
        try:
            opened = self._receiver.open()
        except OSError as error:
            # What has grown is told next time.
            self._note(error)
            return
        with opened as sock:
            self._note(send_all(sock, self._statsd.datagrams(families)))

    def close(self) -> None:
        """There is nothing to end."""

    def _note(self, error: OSError | None) -> None:
        """Log a problem once, and again after another or none."""
        problem = "" if error is None else str(error)
        if problem and problem != self._problem:
            logger.warning("No metrics reach StatsD at %s: %s", self._address, problem)
        self._problem = problem


class Publisher:
    """Send the figures that ``read`` returns to each sink, until ``close``."""

    def __init__(
        self, sinks: Sequence[Sink], read: Callable[[], Sequence[Family]]
    ) -> None:
        self._read = read
        self._last: Sequence[Family] | None = None
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run, args=(sink,), name=f"djserve {sink.name}", daemon=True
            )
            for sink in sinks
        ]

    def start(self) -> None:
        """Begin; called once, after any fork that serves."""
        for thread in self._threads:
            thread.start()

    def close(self, last: Sequence[Family], longest: float = LAST_TIMEOUT) -> None:
        """Send the last figures, and wait for that for ``longest`` seconds, or less."""
        self._last = last
        self._ended.set()
        for thread in self._threads:
            thread.join(longest)

    def _run(self, sink: Sink) -> None:
        while not self._ended.wait(sink.interval):
            self._send(sink, self._read())
        if self._last is not None:
            self._send(sink, self._last)
        sink.close()

    def _send(self, sink: Sink, families: Sequence[Family]) -> None:
        try:
            sink.send(families)
        except Exception:
            # An exporter that the project has installed may raise anything.
            logger.exception("Metrics could not be sent to %s", sink.name)


def open_sinks(config: MetricsConfig) -> list[Sink]:
    """Return the receivers that are configured. Raises ConfigError."""
    sinks: list[Sink] = []
    if config.statsd is not None:
        sinks.append(StatsDSink(config.statsd, config))
    if config.metrics_otlp:
        from djserve.instrumentation.otlp_metrics import OTLPSink

        sinks.append(OTLPSink())
    return sinks
