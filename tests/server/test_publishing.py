from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from djserve.conf.parser import parse
from djserve.instrumentation.figures import Family, FigureKind
from djserve.server.publishing import Publisher, StatsDSink, open_sinks

GUARD = 120.0


def requests(count: int) -> list[Family]:
    return [Family("requests", FigureKind.COUNTER, "", values={(): count})]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(GUARD)
        yield sock


def make_sink(address: str, **settings: object) -> StatsDSink:
    config = parse({"STATSD": address, **settings}).metrics
    return StatsDSink(address, config)


class Recorder:
    """A sink that keeps what it is given."""

    name = "recorder"
    interval = 0.001

    def __init__(self, error: Exception | None = None) -> None:
        self.taken: list[Sequence[Family]] = []
        self.is_closed = threading.Event()
        self.has_taken = threading.Event()
        self._error = error

    def send(self, families: Sequence[Family]) -> None:
        self.taken.append(families)
        self.has_taken.set()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.is_closed.set()


def test_no_one_is_told_by_default() -> None:
    assert open_sinks(parse({}).metrics) == []


def test_figures_are_read_and_sent_again_and_again_until_the_last() -> None:
    sink = Recorder()
    publisher = Publisher([sink], lambda: requests(1))
    publisher.start()
    assert sink.has_taken.wait(GUARD)
    publisher.close(requests(2), GUARD)

    assert sink.is_closed.is_set()
    assert sink.taken[-1] == requests(2)
    assert set(map(len, sink.taken)) == {1}


def test_failing_exporter_is_logged_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Recorder(RuntimeError("broken"))
    publisher = Publisher([sink], lambda: requests(1))
    with caplog.at_level(logging.ERROR, "djserve.metrics"):
        publisher.start()
        assert sink.has_taken.wait(GUARD)
        publisher.close(requests(2), GUARD)

    assert len(sink.taken) >= 2
    assert "Metrics could not be sent to recorder" in caplog.text


@pytest.mark.e2e
def test_statsd_gets_what_has_grown(listener: socket.socket) -> None:
    host, port = listener.getsockname()
    sink = make_sink(f"{host}:{port}", STATSD_TAGS=["env:test"])
    sink.send(requests(5))
    sink.send(requests(7))

    assert listener.recv(9000) == b"djserve.requests:5|c|#env:test"
    assert listener.recv(9000) == b"djserve.requests:2|c|#env:test"
    assert sink.interval == 10


@pytest.mark.e2e
def test_absent_receiver_is_logged_once_and_told_all_when_it_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "statsd")
    sink = make_sink(f"unix:{path}")
    with caplog.at_level(logging.WARNING, "djserve.metrics"):
        sink.send(requests(5))
        sink.send(requests(6))
    assert [record.name for record in caplog.records] == ["djserve.metrics"]
    assert f"No metrics reach StatsD at unix:{path}" in caplog.text

    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listener:
        listener.bind(path)
        listener.settimeout(GUARD)
        sink.send(requests(8))
        assert listener.recv(9000) == b"djserve.requests:8|c"
