"""Content that waits, is delivered once, and is credited when it is read."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from djserve.protocols.multiplexed.content import RequestContent
from djserve.protocols.multiplexed.tunnel import Tunnel
from tests.support.recorders import RecordingReceiver

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.interfaces import Exchange


def traced_size(work: Callable[[], object]) -> int:
    """Return the memory that is taken, and not given back, while ``work`` runs."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


class Receiver(RecordingReceiver):
    """Calls ``on_data`` when it has taken some."""

    def __init__(self, on_data: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._on_data = on_data

    is_running = False

    def start(self) -> None:
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._on_data is not None:
            self._on_data()


class Stream:
    """What content and tunnel ask of a stream; it counts the credit."""

    is_writable = True
    waiting_size = 0

    def __init__(self, *, is_waiting: bool = False) -> None:
        self.receiver = Receiver()
        self.exchange: Exchange | None = self.receiver
        self.tunnel: Tunnel | None = None
        self.may_receive = True
        self.credit: list[int] = []
        self.content = RequestContent(self, is_waiting)

    def give_credit(self, size: int) -> None:
        self.credit.append(size)

    def receive(self, *parts: bytes, is_last: bool = False) -> Stream:
        for part in parts:
            self.content.receive(part, len(part))
        if is_last:
            self.may_receive = False
            self.content.deliver_end()
        return self

    def upgrade(self) -> Receiver:
        receiver = Receiver()
        self.tunnel = Tunnel(self, receiver)
        return receiver

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    write_eof = reset = pause_reading = resume_reading = lambda self: None


def test_content_is_delivered_as_it_comes_and_its_end_once() -> None:
    stream = Stream().receive(b"a", b"bc", is_last=True)
    stream.content.deliver_end()

    assert (stream.receiver.data, stream.receiver.events) == (b"abc", ["eof"])


def test_credit_is_given_for_what_was_read() -> None:
    stream = Stream().receive(b"a", b"bc")
    assert (stream.credit, stream.content.is_unread) == ([], True)

    stream.content.credit_read()
    stream.content.credit_read()
    assert (stream.credit, stream.content.is_unread) == ([3], False)


def test_paused_content_is_held_without_credit() -> None:
    stream = Stream()
    stream.content.pause()
    stream.receive(b"a", b"bc", is_last=True)
    stream.content.credit_read()
    assert (stream.receiver.data, stream.receiver.events) == (b"", [])
    assert (stream.content.held_size, stream.credit) == (3, [])

    stream.content.resume()
    stream.content.credit_read()
    assert (stream.receiver.data, stream.receiver.events) == (b"abc", ["eof"])
    assert (stream.content.held_size, stream.credit) == (0, [3])


def test_end_of_paused_content_comes_with_the_resumption() -> None:
    stream = Stream().receive(b"a")
    stream.content.pause()
    stream.receive(is_last=True)
    assert stream.receiver.events == []

    stream.content.resume()
    assert stream.receiver.events == ["eof"]


def test_receiver_that_pauses_gets_no_end() -> None:
    stream = Stream()
    stream.exchange = receiver = Receiver(stream.content.pause)
    stream.may_receive = False
    stream.content.receive(b"a", 1)

    assert (receiver.data, receiver.events) == (b"a", [])


@pytest.mark.parametrize("resumes_early", [False, True])
def test_content_that_waits_is_delivered_at_the_start(resumes_early: bool) -> None:
    stream = Stream(is_waiting=True).receive(b"a", b"b", is_last=True)
    if resumes_early:
        stream.content.resume()
    assert (stream.receiver.data, stream.receiver.events) == (b"", [])

    stream.content.start()
    assert (stream.receiver.data, stream.receiver.events) == (b"ab", ["eof"])


def test_start_ends_no_pause() -> None:
    stream = Stream(is_waiting=True).receive(b"a")
    stream.content.pause()
    stream.content.start()
    assert stream.receiver.data == b""

    stream.content.resume()
    assert stream.receiver.data == b"a"


def test_what_came_ahead_of_an_upgrade_goes_to_the_tunnel() -> None:
    stream = Stream(is_waiting=True).receive(b"early")
    receiver = stream.upgrade()
    stream.content.start()
    stream.receive(b" late", is_last=True)

    assert (receiver.data, receiver.events) == (b"early late", ["eof"])
    assert (stream.receiver.data, stream.receiver.events) == (b"", [])
    assert stream.credit == [5, 5]


def test_tunnel_that_closes_gets_credit_and_no_bytes() -> None:
    stream = Stream()
    receiver = stream.upgrade()
    assert stream.tunnel is not None
    stream.tunnel.close()
    stream.receive(b"late")

    assert (receiver.data, stream.credit) == (b"", [4])


def test_stopped_content_is_dropped_with_its_end() -> None:
    stream = Stream()
    stream.content.pause()
    stream.receive(b"abc", is_last=True)
    stream.content.stop()
    stream.content.resume()
    stream.content.credit_read()

    assert (stream.receiver.data, stream.receiver.events) == (b"", [])
    assert (stream.content.held_size, stream.credit) == (0, [])
    assert stream.content.take_unread() == 0


def test_receiver_that_stops_the_content_gets_no_end() -> None:
    stream = Stream()
    stream.exchange = receiver = Receiver(stream.content.stop)
    stream.may_receive = False
    stream.content.receive(b"a", 1)

    assert (receiver.data, receiver.events) == (b"a", [])


def test_small_parts_that_wait_take_little() -> None:
    stream = Stream(is_waiting=True)

    def receive() -> None:
        for number in range(50_000):
            stream.receive(number.to_bytes(2, "big"))

    assert traced_size(receive) < 300_000
    assert stream.content.held_size == 100_000
    stream.content.start()
    content = b"".join(number.to_bytes(2, "big") for number in range(50_000))
    assert stream.receiver.data == content
