"""Metrics that are sent to a receiver of StatsD while a project is served."""

from __future__ import annotations

import re
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_metrics import ENVIRONMENT, fetch, fill

pytestmark = pytest.mark.e2e

GUARD = 120.0
LINE = re.compile(r"([\w.]+):([\d.e-]+)\|(c|g|ms)(?:\|@([\d.e-]+))?(?:\|#(.+))?")


class Receiver:
    """A UDP socket, and what its datagrams add up to."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(GUARD)
        self.counts: Counter[str] = Counter()
        self.gauges: dict[str, float] = {}
        self.tags: dict[str, str] = {}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.socket.getsockname()[1]}"

    def close(self) -> None:
        self.socket.close()

    def take(self) -> None:
        """Wait for a datagram and add it."""
        for line in self.socket.recv(9000).decode().split("\n"):
            match = LINE.fullmatch(line)
            assert match is not None, line
            name, value, kind, rate, tags = match.groups()
            self.tags[name] = tags or ""
            if kind == "g":
                self.gauges[name] = float(value)
            elif kind == "c":
                self.counts[name] += int(value)
            else:
                self.counts[name] += int(1 / float(rate or 1))

    def wait_until(self, is_enough: Callable[[], bool]) -> None:
        while not is_enough():
            self.take()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with closing(Receiver()) as receiver:
        yield receiver


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return fill(tmp_path)


def serve(
    start_server: Callable[..., Any], folder: Path, port: int, *words: str
) -> Any:
    interval = ("--statsd-interval", "0.2")
    return start_server(
        *("manage.py", "runasgi", f"127.0.0.1:{port}", *interval, *words),
        port=port,
        cwd=folder,
        env=ENVIRONMENT,
    )


def test_counters_of_all_workers_arrive_each_once(
    start_server: Callable[..., Any], site: Path, free_port: int, receiver: Receiver
) -> None:
    server = serve(start_server, site, free_port, "--statsd", receiver.address)
    server.wait_for("Supervisor")
    for number in range(20):
        fetch(f"{server.url}/")
        fetch(f"{server.url}/shop/later/{number}")
    ok = "djserve.requests.GET.200.HTTP_1_1"
    receiver.wait_until(lambda: receiver.counts[ok] >= 40)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("has ended")
    fetch(f"{server.url}/")
    # What has been counted last arrives when the server has ended.
    server.process.terminate()
    assert server.process.wait(GUARD) == 0
    receiver.socket.settimeout(0)
    with pytest.raises(BlockingIOError):
        receiver.wait_until(lambda: False)

    assert receiver.counts[ok] == 41
    assert receiver.counts["djserve.request_duration"] == 41
    assert receiver.counts["djserve.view_duration.site_urls_index"] == 21
    assert receiver.counts["djserve.view_duration.shop_later"] == 20
    # The fixture's own connection too, by which it saw that the port was open.
    assert receiver.counts["djserve.connections"] == 42
    assert "djserve.loop_lag_seconds" in ".".join(receiver.gauges)


def test_one_process_sends_its_metrics_with_tags(
    start_server: Callable[..., Any], site: Path, free_port: int, receiver: Receiver
) -> None:
    words = ("--workers", "1", "--statsd", receiver.address, "--statsd-prefix", "web")
    server = serve(start_server, site, free_port, *words, "--statsd-tags", "env:test")
    fetch(f"{server.url}/")
    server.process.terminate()
    assert server.process.wait(GUARD) == 0
    receiver.wait_until(lambda: receiver.counts["web.view_duration"] >= 1)

    assert receiver.gauges["web.workers"] == 1
    assert receiver.tags["web.workers"] == "env:test"
    assert receiver.tags["web.view_duration"] == "env:test,view:site_urls.index"


def test_site_is_served_without_the_receiver(
    start_server: Callable[..., Any], site: Path, free_port: int, receiver: Receiver
) -> None:
    address = receiver.address
    receiver.close()
    server = serve(start_server, site, free_port, "--statsd", address)
    server.wait_for(f"No metrics reach StatsD at {address}")
    assert fetch(f"{server.url}/") == (200, "index")
    server.process.terminate()

    assert server.process.wait(GUARD) == 0
    assert server.output.count("No metrics reach StatsD") == 1
    assert "Traceback" not in server.output
