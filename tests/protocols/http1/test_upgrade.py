from __future__ import annotations

from typing import Any

from djserve.protocols.http1.upgrade import LONG, UpgradedConnection
from djserve.testing.transport import MemoryTransport


class Recorder:
    """Stands for the receiver: it notes each call."""

    def __init__(self, name: str, calls: list[tuple[Any, ...]]) -> None:
        self._name = name
        self._calls = calls

    def __getattr__(self, event: str) -> Any:
        return lambda *arguments: self._calls.append((self._name, event, *arguments))


def upgraded(early: bytes = b"") -> tuple[UpgradedConnection, list[tuple[Any, ...]]]:
    calls: list[tuple[Any, ...]] = []
    receiver: Any = Recorder("receiver", calls)
    return (
        UpgradedConnection(
            receiver, lambda exc: calls.append(("connection", "lost", exc)), early
        ),
        calls,
    )


def test_what_came_before_the_switch_goes_first() -> None:
    connection, calls = upgraded(b"ear")
    connection.hold(b"ly")

    connection.data_received(b"frame")
    connection.data_received(b"next")

    assert calls == [
        ("receiver", "data_received", b"early"),
        ("receiver", "data_received", b"frame"),
        ("receiver", "data_received", b"next"),
    ]


def test_tick_delivers_what_came_before_the_switch() -> None:
    connection, calls = upgraded(b"early")
    connection.tick(1.0)
    connection.tick(2.0)

    assert calls == [
        ("receiver", "data_received", b"early"),
        ("receiver", "tick", 1.0),
        ("receiver", "tick", 2.0),
    ]


def test_flow_control_reaches_the_receiver_alone() -> None:
    connection, calls = upgraded()

    connection.pause_writing()
    connection.resume_writing()
    connection.eof_received()

    assert calls == [
        ("receiver", "pause_writing"),
        ("receiver", "resume_writing"),
        ("receiver", "eof_received"),
    ]


def test_end_is_told_to_the_connection_alone() -> None:
    connection, calls = upgraded()

    connection.connection_lost(None)

    assert calls == [("connection", "lost", None)]


class Peer(MemoryTransport):
    """Reads as uvloop does: into a buffer, where that was there when reading began."""

    def __init__(self) -> None:
        super().__init__()
        self.reads_buffer = False

    def resume_reading(self) -> None:
        super().resume_reading()
        self.reads_buffer = hasattr(self.receiver, "get_buffer")

    def send(self, data: bytes) -> None:
        receiver: Any = self.receiver
        assert not self.reading_paused
        if self.reads_buffer:
            view = receiver.get_buffer(-1)
            view[: len(data)] = data
            receiver.buffer_updated(len(data))
        else:
            receiver.data_received(data)


class Receiver(Recorder):
    """A receiver with a buffer, or without (None)."""

    def __init__(self, calls: list[tuple[Any, ...]], buffer: Any) -> None:
        super().__init__("receiver", calls)
        self.read_buffer = buffer


class Buffer:
    def __init__(self) -> None:
        self.view = memoryview(bytearray(2 * LONG))


def talk(buffer: Any, *sizes: int) -> list[tuple[Any, ...]]:
    """Send chunks of these sizes; return what reaches the receiver."""
    calls: list[tuple[Any, ...]] = []
    receiver: Any = Receiver(calls, buffer)
    peer = Peer()
    peer.set_protocol(UpgradedConnection(receiver, lambda exc: None, b"", peer))
    for size in sizes:
        peer.send(bytes(size))
    peer.lose()
    return [(event, *map(len_of, rest)) for _, event, *rest in calls]


def len_of(argument: Any) -> Any:
    return len(argument) if isinstance(argument, bytes) else argument


def test_long_chunk_has_the_next_ones_read_into_the_buffer() -> None:
    assert talk(Buffer(), LONG - 1, LONG, 10, LONG) == [
        ("data_received", LONG - 1),
        ("data_received", LONG),
        ("buffer_updated", 10),
        ("buffer_updated", LONG),
    ]


def test_receiver_without_a_buffer_gets_long_chunks_as_bytes() -> None:
    assert talk(None, LONG, LONG) == [
        ("data_received", LONG),
        ("data_received", LONG),
    ]
