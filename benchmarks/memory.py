"""Resident memory of a server while 1 GiB goes through it slowly, in each direction.

Run as ``python -m benchmarks.memory``: it starts djserve on a port of its own, uploads
to an application that reads slowly, downloads with a client that reads slowly, and
prints by how much the server's memory grew at the most.
"""

from __future__ import annotations

import argparse
import http.client
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

MIB = 1024 * 1024
PIECE = bytes(256 * 1024)


def resident_size(pid: int) -> int:
    """Return a process's resident memory in bytes (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


class PeakMeter:
    """Watch a process's memory in a thread, from ``start`` to ``stop``."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before = self.peak = resident_size(pid)

    def __enter__(self) -> PeakMeter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.peak = max(self.peak, resident_size(self._pid))

    @property
    def growth(self) -> float:
        """The largest growth seen, in MiB."""
        return (self.peak - self.before) / MIB


def upload(port: int, size: int) -> None:
    """Send ``size`` bytes as fast as the server takes them."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.putrequest("POST", "/slow")
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    for _ in range(size // len(PIECE)):
        connection.send(PIECE)
    received = int(connection.getresponse().read())
    if received != size:
        raise SystemExit(f"The application read {received} of {size} bytes")


def download(port: int, size: int, pause: float) -> None:
    """Read ``size`` bytes with a pause after each piece."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("GET", f"/?{size // MIB}")
    response = connection.getresponse()
    received = 0
    while data := response.read(len(PIECE)):
        received += len(data)
        time.sleep(pause)
    if received < size:
        raise SystemExit(f"The client read {received} of {size} bytes")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_until_open(port: int) -> None:
    """Return when the port takes connections, within ten seconds."""
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("The server did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--pause", type=float, default=0.002, help="seconds a piece")
    options = parser.parse_args()
    size = options.mib * MIB
    port = free_port()
    command = [sys.executable, "-m", "djserve", "benchmarks.apps:transfer"]
    command += ["--bind", f"127.0.0.1:{port}", "-v", "0"]
    with subprocess.Popen(command) as server:
        try:
            wait_until_open(port)
            upload(port, 8 * MIB)
            download(port, 8 * MIB, 0)
            for name, transfer in (
                ("upload", lambda: upload(port, size)),
                ("download", lambda: download(port, size, options.pause)),
            ):
                started = time.perf_counter()
                with PeakMeter(server.pid) as meter:
                    transfer()
                seconds = time.perf_counter() - started
                print(
                    f"{name} of {options.mib} MiB in {seconds:.1f} s: "
                    f"memory {meter.before / MIB:.1f} MiB, grew by {meter.growth:.1f} MiB"
                )
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
