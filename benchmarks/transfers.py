"""Large uploads and downloads over one connection, and a meter for memory meanwhile.

The client is a socket that sends and receives large pieces, which costs next to
nothing beside any server.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable

from benchmarks.processes import BenchmarkError

MIB = 1024 * 1024
PIECE = bytes(256 * 1024)
TIMEOUT = 120.0


def upload(port: int, size: int, path: str = "/") -> float:
    """Send ``size`` bytes as fast as they are taken; return the seconds it took."""
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n"
        sock.sendall(head.encode() + b"Connection: close\r\n\r\n")
        for _ in range(size // len(PIECE)):
            sock.sendall(PIECE)
        response = b"".join(iter(lambda: sock.recv(65536), b""))
    if not response.endswith(str(size).encode()):
        raise BenchmarkError(f"The upload was answered {response[-80:]!r}")
    return time.perf_counter() - started


def download(port: int, size: int, pause: float = 0) -> float:
    """Read ``size`` bytes, pausing after each piece; return the seconds it took."""
    started = time.perf_counter()
    buffer = bytearray(len(PIECE))
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
        head = f"GET /?{size // MIB} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        sock.sendall(head.encode() + b"Connection: close\r\n\r\n")
        count = sock.recv_into(buffer)
        response = bytes(buffer[:count])
        received = count
        while count := sock.recv_into(buffer):
            received += count
            if pause:
                time.sleep(pause)
    if not re.match(rb"HTTP/1\.1 200", response) or received < size:
        raise BenchmarkError(f"The client read {received} of {size} bytes")
    return time.perf_counter() - started


class PeakMeter:
    """Watch a size in a thread during a block; ``growth`` is its greatest rise."""

    def __init__(self, size: Callable[[], int]) -> None:
        self._size = size
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._before = self._peak = size()

    def __enter__(self) -> PeakMeter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self._peak = max(self._peak, self._size())

    @property
    def growth(self) -> int:
        return self._peak - self._before


def wait_until_steady(
    size: Callable[[], int], *, seconds: float = 1.0, limit: float = 10.0
) -> None:
    """Return once a size has not risen for some seconds, or after the limit.

    What a server does soon after its start, such as importing the rest of itself, is
    not what a transfer costs.
    """
    ends = time.monotonic() + limit
    greatest, since = size(), time.monotonic()
    while time.monotonic() - since < seconds and time.monotonic() < ends:
        time.sleep(0.05)
        if (now := size()) > greatest:
            greatest, since = now, time.monotonic()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
