"""The transport in memory."""

from __future__ import annotations

import pytest

from djserve.testing.transport import MemoryTransport


class Recorder:
    """A receiver that notes the calls that it gets."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def data_received(self, data: bytes, /) -> None:
        self.calls.append(data)

    def eof_received(self) -> None:
        self.calls.append("eof")

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None, /) -> None:
        self.calls.append(("lost", exc))


@pytest.fixture
def receiver() -> Recorder:
    return Recorder()


@pytest.fixture
def transport(receiver: Recorder) -> MemoryTransport:
    return MemoryTransport(receiver)


def test_what_is_written_is_taken_once(transport: MemoryTransport) -> None:
    transport.write(b"one")
    transport.write(b"two")

    assert transport.data == b"onetwo"
    assert transport.writes == [b"one", b"two"]
    assert transport.take() == b"onetwo"
    assert transport.take() == b""


def test_writes_after_close_are_dropped(transport: MemoryTransport) -> None:
    transport.close()
    transport.write(b"late")

    assert transport.is_closing
    assert not transport.is_aborted
    assert transport.take() == b""


def test_abort_is_also_a_close(transport: MemoryTransport) -> None:
    transport.abort()

    assert transport.is_aborted
    assert transport.is_closing


def test_the_end_of_writing_is_recorded(transport: MemoryTransport) -> None:
    assert transport.can_write_eof()

    transport.write_eof()

    assert transport.is_eof_written


def test_reading_is_paused_and_resumed(transport: MemoryTransport) -> None:
    transport.pause_reading()
    assert transport.reading_paused

    transport.resume_reading()
    assert not transport.reading_paused


def test_a_slow_peer_pauses_and_resumes_the_receiver(
    transport: MemoryTransport, receiver: Recorder
) -> None:
    transport.write(b"four")
    transport.fill()
    assert transport.get_write_buffer_size() == 4

    transport.drain()
    assert transport.get_write_buffer_size() == 0
    assert receiver.calls == ["pause", "resume"]


def test_fed_chunks_reach_the_receiver_in_order(
    transport: MemoryTransport, receiver: Recorder
) -> None:
    transport.feed(b"a", b"b")
    transport.feed_eof()
    transport.lose()

    assert receiver.calls == [b"a", b"b", "eof", ("lost", None)]


def test_nothing_is_fed_once_the_transport_closes(
    transport: MemoryTransport, receiver: Recorder
) -> None:
    transport.close()
    transport.feed(b"late")

    assert receiver.calls == []


def test_a_new_receiver_gets_what_comes_later(transport: MemoryTransport) -> None:
    successor = Recorder()
    transport.set_protocol(successor)
    transport.feed(b"upgraded")

    assert transport.receivers == [successor]
    assert successor.calls == [b"upgraded"]


def test_a_transport_without_receiver_says_so() -> None:
    with pytest.raises(AssertionError, match="set_protocol"):
        MemoryTransport().feed(b"x")
