from __future__ import annotations

from typing import Any

from djserve.protocols.http1.upgrade import UpgradedConnection


class Recorder:
    """Stands for the connection and for the receiver: it notes each call."""

    def __init__(self, name: str, calls: list[tuple[Any, ...]]) -> None:
        self._name = name
        self._calls = calls

    def __getattr__(self, event: str) -> Any:
        return lambda *arguments: self._calls.append((self._name, event, *arguments))


def upgraded() -> tuple[UpgradedConnection, list[tuple[Any, ...]], Any]:
    calls: list[tuple[Any, ...]] = []
    receiver: Any = Recorder("receiver", calls)
    connection: Any = Recorder("connection", calls)
    return UpgradedConnection(connection, receiver), calls, receiver


def test_what_came_before_the_switch_goes_first() -> None:
    connection, calls, receiver = upgraded()

    connection.data_received(b"frame")

    assert calls == [
        ("connection", "flush_upgraded", receiver),
        ("receiver", "data_received", b"frame"),
    ]


def test_flow_control_reaches_the_receiver_alone() -> None:
    connection, calls, _ = upgraded()

    connection.pause_writing()
    connection.resume_writing()
    connection.eof_received()

    assert calls == [
        ("receiver", "pause_writing"),
        ("receiver", "resume_writing"),
        ("receiver", "eof_received"),
    ]


def test_end_is_told_to_the_receiver_and_then_to_the_connection() -> None:
    connection, calls, _ = upgraded()

    connection.connection_lost(None)

    assert calls == [
        ("receiver", "connection_lost", None),
        ("connection", "connection_lost", None),
    ]
