"""Figures to datagrams of StatsD: what has changed since the last ones.

Not a datagram for each request: a counter is sent as its growth, and a histogram as
timings, one for each bucket that has grown, whose sample rate tells how many requests
it stands for. Within its bucket a timing lies so that their mean is the measured one.
No library is of use here: those for StatsD count in the process and send at once.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from djserve.instrumentation.board import BUCKETS
from djserve.instrumentation.figures import FigureKind, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from djserve.instrumentation.figures import Family

PAYLOAD = 1432
"""Bytes of a datagram that no Ethernet on the way takes apart."""

# What separates the parts of a line, or those of a name for Graphite.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_NOT_IN_TAGS = re.compile(r"[,|\s]")


class StatsD:
    """Datagrams for one receiver, from one reading of the figures to the next.

    With ``with_tags``, labels are tags as DogStatsD has them, in front of them those
    given; without, they are parts of the name.
    """

    def __init__(
        self, prefix: str, tags: Sequence[str] = (), *, with_tags: bool = False
    ) -> None:
        self._prefix = f"{prefix}." if prefix else ""
        self._tags = tuple(tags)
        self._with_tags = with_tags or bool(tags)
        self._counts: dict[tuple[str, str], float] = {}
        self._gauges: set[tuple[str, str]] = set()
        self._histograms: dict[tuple[str, str], Histogram] = {}

    def datagrams(self, families: Iterable[Family]) -> list[bytes]:
        """Return what there is to tell since the last call."""
        return list(_pack(self._lines(families)))

    def _lines(self, families: Iterable[Family]) -> Iterator[str]:
        gauges: dict[tuple[str, str], float] = {}
        for family in families:
            if family.kind is FigureKind.HISTOGRAM:
                yield from self._timings(family)
            elif family.kind is FigureKind.COUNTER:
                yield from self._growth(family)
            else:
                gauges |= self._by_key(family, family.name)
        # A receiver keeps a gauge: one of a worker that has ended would stay for ever.
        gone = dict.fromkeys(self._gauges - gauges.keys(), 0.0)
        self._gauges = {*gauges}
        for (name, tags), value in (gauges | gone).items():
            yield f"{name}:{value:.12g}|g{tags}"

    def _growth(self, family: Family) -> Iterator[str]:
        for key, value in self._by_key(family, family.name).items():
            growth = value - self._counts.get(key, 0)
            self._counts[key] = value
            if growth > 0:
                yield f"{key[0]}:{growth:.0f}|c{key[1]}"

    def _timings(self, family: Family) -> Iterator[str]:
        name = family.name.removesuffix("_seconds")
        for labels, histogram in family.histograms.items():
            key = self._key(name, family.labels, labels)
            before = self._histograms.get(key)
            self._histograms[key] = histogram
            for seconds, count in find_timings(histogram.since(before)):
                rate = "" if count == 1 else f"|@{sample_rate(count)!r}"
                yield f"{key[0]}:{seconds * 1000:.6g}|ms{rate}{key[1]}"

    def _by_key(self, family: Family, name: str) -> dict[tuple[str, str], float]:
        values: dict[tuple[str, str], float] = {}
        for labels, value in family.values.items():
            key = self._key(name, family.labels, labels)
            # Names without tags may have become the same.
            values[key] = values.get(key, 0) + value
        return values

    def _key(
        self, name: str, labels: Sequence[str], values: Sequence[str]
    ) -> tuple[str, str]:
        """Return name and tags as they stand in a line."""
        name = self._prefix + name
        if not self._with_tags:
            parts = (_NOT_IN_NAMES.sub("_", value) for value in values)
            return ".".join((name, *parts)), ""
        pairs = zip(labels, values, strict=True)
        own = (f"{label}:{_NOT_IN_TAGS.sub('_', value)}" for label, value in pairs)
        tags = ",".join((*self._tags, *own))
        return name, f"|#{tags}" if tags else ""


def find_timings(histogram: Histogram) -> Iterator[tuple[float, int]]:
    """Return times in seconds, and how many requests each stands for.

    Each lies within its bucket, all at the same share of its width, so that their sum
    is the histogram's.
    """
    *inside, beyond = histogram.counts
    lows = (0.0, *BUCKETS[:-1])
    buckets = list(zip(lows, BUCKETS, inside, strict=True))
    least = sum(low * count for low, _, count in buckets)
    width = sum((high - low) * count for low, high, count in buckets)
    share = 0.5
    if not beyond and width:
        share = min(1.0, max(0.0, (histogram.total - least) / width))
    for low, high, count in buckets:
        if count:
            yield low + (high - low) * share, count
    if beyond:
        rest = histogram.total - least - width * share
        yield max(BUCKETS[-1], rest / beyond), beyond


def sample_rate(count: int) -> float:
    """Return a rate that leads to ``count`` if a receiver cuts fractions off."""
    rate = 1 / count
    while 1 / rate < count:
        rate = math.nextafter(rate, 0)
    return rate


def _pack(lines: Iterable[str]) -> Iterator[bytes]:
    """Join lines to datagrams of at most ``PAYLOAD`` bytes."""
    waiting: list[bytes] = []
    size = 0
    for line in lines:
        data = line.encode()
        if waiting and size + len(data) > PAYLOAD:
            yield b"\n".join(waiting)
            waiting, size = [], 0
        waiting.append(data)
        size += len(data) + 1
    if waiting:
        yield b"\n".join(waiting)
