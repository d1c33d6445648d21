"""Probes that give up: what the operator hears of them."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from djserve.server.probes import ProbeServer

pytestmark = pytest.mark.e2e

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Health:
    """Answers only once the test has said what to do."""

    def __init__(self) -> None:
        self.answer: Callable[[], bytes] = bytes

    def metrics(self) -> bytes:
        return self.answer()

    def is_alive(self) -> bool:
        return True

    def is_ready(self) -> bool:
        return True


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def probe(health: Health) -> Iterator[socket.socket]:
    server = ProbeServer("127.0.0.1:0", health)
    (address,) = server.addresses
    with socket.create_connection(address, 120) as sock:
        yield sock
    server.close()


def end_answers() -> None:
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(120)


def test_probe_that_resets_its_connection_is_passed_over(
    health: Health,
    probe: socket.socket,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    asked, is_gone = threading.Event(), threading.Event()

    def answer() -> bytes:
        asked.set()
        assert is_gone.wait(120)
        return b"figures"

    health.answer = answer
    probe.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert asked.wait(120)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    probe.close()
    is_gone.set()
    end_answers()

    assert [record for record in caplog.records if record.name == "djserve"] == []
    assert capfd.readouterr().err == ""


def test_probe_that_cannot_be_answered_is_an_error(
    health: Health, probe: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    def answer() -> bytes:
        raise ValueError("no figures")

    health.answer = answer
    probe.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert probe.recv(1) == b""
    end_answers()

    (record,) = [record for record in caplog.records if record.name == "djserve"]
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "A probe could not be answered"
    assert record.exc_info is not None
