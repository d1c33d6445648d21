"""Requests to the figures of a board; what the metrics and the limits count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.instrumentation.board import Field, duration_index, request_index

if TYPE_CHECKING:
    from djserve.instrumentation.board import Board
    from djserve.instrumentation.events import RequestRecord


class Meter:
    """Count requests and WebSockets on a board; a RequestLog."""

    def __init__(self, board: Board) -> None:
        self._numbers = board.numbers

    def request_finished(self, record: RequestRecord) -> None:
        self._count(record, record.status)

    def websocket_connecting(self, record: RequestRecord) -> None:
        """Wait for what becomes of it."""

    def websocket_accepted(self, record: RequestRecord) -> None:
        self._numbers[Field.WEBSOCKETS] += 1
        self._numbers[Field.WEBSOCKETS_TOTAL] += 1
        self._count(record, record.status)

    def websocket_rejected(self, record: RequestRecord) -> None:
        self._count(record, record.status)

    def websocket_closed(self, record: RequestRecord) -> None:
        self._numbers[Field.WEBSOCKETS] -= 1

    def _count(self, record: RequestRecord, status: int) -> None:
        numbers = self._numbers
        head = record.head
        numbers[Field.REQUESTS] += 1
        numbers[Field.BYTES_SENT] += record.size
        numbers[Field.DURATION_SUM] += int(record.duration * 1e9)
        numbers[duration_index(record.duration)] += 1
        numbers[request_index(head.method, status, head.http_version)] += 1
