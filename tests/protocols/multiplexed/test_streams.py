"""What the stream tables of both protocols do with their streams."""

from __future__ import annotations

import pytest

from djserve.errors import ApplicationError, ProtocolError
from djserve.protocols.multiplexed.streams import (
    build_refusal,
    count_content,
    defer_drains,
    drain_streams,
    keep_running,
)
from tests.support.recorders import RecordingReceiver


class Receiver(RecordingReceiver):
    """An exchange, as far as the tables ask it."""

    is_running = False

    def start(self) -> None:
        raise NotImplementedError


class Stream:
    def __init__(self, table: list[Stream], is_upgraded: bool) -> None:
        self._table = table
        self.is_upgraded = is_upgraded
        self.is_drain_deferred = False
        self.drains = 0

    def drain(self) -> None:
        """Leave the table, as a stream does that ends by it."""
        self.drains += 1
        self._table.remove(self)


def test_deferred_drains_are_those_of_upgraded_streams() -> None:
    table: list[Stream] = []
    streams = [Stream(table, is_upgraded) for is_upgraded in (False, True, False)]
    table += streams
    deferred = defer_drains(table)
    drain_streams(table)
    assert [stream.drains for stream in streams] == [1, 0, 1]

    for drain in deferred:
        drain()
    assert [stream.drains for stream in streams] == [1, 1, 1]


def test_calls_are_kept_while_they_run() -> None:
    running, ended = Receiver(), Receiver()
    running.is_running = True

    assert keep_running({running, ended}) == {running}


def test_promised_length_is_counted_down() -> None:
    assert count_content(5, 3, more=True) == 2
    assert count_content(2, 2, more=False) == 0


@pytest.mark.parametrize(
    ("size", "more", "message"),
    [
        (3, True, "3 bytes of content, but the Content-Length has room for 2 only"),
        (1, False, "The response ends 1 bytes short of its Content-Length"),
    ],
)
def test_content_of_another_length_is_the_applications_fault(
    size: int, more: bool, message: str
) -> None:
    with pytest.raises(ApplicationError, match=message):
        count_content(2, size, more)


def test_refusal_has_the_fields_of_its_error_but_for_those_of_http1() -> None:
    error = ProtocolError(
        "No \u00e9",
        426,
        [(b"upgrade", b"websocket"), (b"connection", b"upgrade"), (b"x", b"y")],
    )

    assert build_refusal(error) == (
        [(b"x", b"y"), (b"content-type", b"text/plain; charset=utf-8")],
        b"No \\xe9\n",
    )
