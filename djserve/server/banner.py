"""What a server says of itself when it is ready: the lines of its start-up message."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import djserve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from djserve.conf.schema import BoundsConfig, HTTP3Config


def start_lines(
    places: Sequence[str],
    loop: str,
    notes: Sequence[str] = (),
    *,
    http2: bool,
    http3: bool,
    tls: bool,
    access_log: str | None,
) -> Iterator[str]:
    """Yield the lines: what runs, where it is found, what it logs, then the notes.

    ``places`` are the listeners'; ``loop`` is what ``describe_loop`` returns.
    """
    python = sys.version.split()[0]
    yield (
        f"djserve {djserve.__version__} speaks HTTP/1.1, {'HTTP/2, ' if http2 else ''}"
        f"{'HTTP/3, ' if http3 else ''}WebSocket ({loop}, Python {python})"
    )
    yield f"Listening on {', '.join(places)}{' with TLS' if tls else ''}"
    yield f"Access log: {describe_access_log(access_log)}"
    yield from notes


def describe_loop(loop: object) -> str:
    """Return the name of the event loop's package."""
    return type(loop).__module__.partition(".")[0]


def describe_access_log(path: str | None) -> str:
    """Return where the access log goes, as the settings say it."""
    if path is None:
        return "off"
    return "standard output" if path == "-" else path


def describe_webtransport(config: HTTP3Config) -> list[str]:
    """Return the line on sessions that are wanted and cannot be offered, if so."""
    if config.webtransport and not config.http3:
        return ["WebTransport: not offered, HTTP3 is off"]
    return []


def describe_bounds(config: BoundsConfig, workers: int) -> str:
    """Return what workers may hold together: each has all of the bounds for itself."""
    parts = [
        f"{describe_size(workers * config.client_memory_limit)} for clients",
        f"{describe_size(workers * config.upload_disk_limit)} of uploads on disk",
    ]
    if config.connection_limit is not None:
        parts.insert(0, f"{workers * config.connection_limit} connections")
    return f"Together the {workers} workers may hold {', '.join(parts)}"


def describe_size(size: int) -> str:
    """Return a number of bytes in the largest unit that it has one of."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"
