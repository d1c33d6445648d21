"""One HTTP/1.1 connection in memory, with a recorder where the application would be."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from djserve.conf.schema import HTTPConfig
from djserve.interfaces import ConnectionInfo, Headers, RequestHead, Stream
from djserve.protocols.http1.connection import HTTP1Connection, HTTP1Service
from djserve.protocols.http1.response import PartTiming, ResponseDefaults
from djserve.testing.transport import MemoryTransport
from tests.support.recorders import RecordedRequest, RecordingOwner

if TYPE_CHECKING:
    pass

OK: Headers = [(b"content-length", b"2")]


class Request(RecordedRequest):
    """One request's recorder, which the wire's functions answer."""

    def __init__(self, wire: Wire, head: RequestHead, stream: Stream) -> None:
        super().__init__(head, stream)
        self.wire = wire

    @property
    def target(self) -> bytes:
        query = self.head.query
        return self.head.raw_path + (b"?" + query if query else b"")

    def start(self) -> None:
        super().start()
        self._act(self.wire.on_start)
        if self.is_complete:
            self._act(self.wire.on_complete)

    def eof_received(self) -> None:
        super().eof_received()
        self._act(self.wire.on_complete)

    def _act(self, action: Callable[[Request], None] | None) -> None:
        if action and self.is_started and not self.is_lost:
            action(self)


class Wire(RecordingOwner[Request]):
    """A connection, its transport, and the requests that came through it.

    ``on_start`` answers in the call that starts the request, as an eager task does.
    ``on_complete`` answers when all of the content has come. Without both nothing is
    answered before the test does it.

    ``now`` is the time for parts of responses; while it is None each part comes long
    after the one before. Turns of the loop are known to be short.
    """

    def __init__(
        self,
        *,
        on_start: Callable[[Request], None] | None = None,
        on_complete: Callable[[Request], None] | None = None,
        server_name: str = "",
        can_write_eof: bool = True,
        refuse: Callable[[RequestHead], None] = lambda head: None,
        **config: Any,
    ) -> None:
        super().__init__(partial(Request, self), refuse)
        self.on_start = on_start
        self.on_complete = on_complete
        self.now: float | None = None
        self._readings = 0
        self.transport = _Transport(can_write_eof)
        self.defaults = ResponseDefaults(server_name)
        self.timing = PartTiming(self.soon.append, self.clock)
        self.timing.are_short = True
        self.connection = HTTP1Connection(
            self.transport,
            ConnectionInfo(("192.0.2.1", 50000), ("192.0.2.2", 80)),
            HTTP1Service(
                self,
                HTTPConfig(**config),
                self.defaults,
                self.timing,
            ),
        )
        self.transport.set_protocol(self.connection)

    # What tests do and ask.

    def feed(self, *chunks: bytes) -> Wire:
        self.transport.feed(*chunks)
        while self.soon:
            self.turn()
        return self

    def turn(self) -> None:
        """Run what waits for a later turn of the loop, and not what that makes wait."""
        soon, self.soon[:] = list(self.soon), []
        for callback in soon:
            callback()

    def tick(self, *times: float) -> Wire:
        for now in times:
            self.connection.tick(now)
        return self

    def clock(self) -> float:
        self._readings += 1
        return float(self._readings) if self.now is None else self.now

    def take(self) -> bytes:
        return self.transport.take()

    @property
    def statuses(self) -> list[int]:
        """The status of each response in what was written."""
        found = re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", self.transport.data)
        return [int(status) for status in found]

    def is_closed(self) -> bool:
        """Whether the server has ended the connection, at least its own side."""
        return self.transport.is_closing or self.transport.is_eof_written

    def is_paused(self) -> bool:
        """Whether the server reads nothing more for now."""
        return self.transport.reading_paused

    @property
    def outcome(self) -> tuple[Any, ...]:
        """All that a peer and an application can tell of this connection."""
        return (
            [(r.target, r.head.headers, r.content, r.is_lost) for r in self.requests],
            [error.status for error in self.refused],
            self.statuses,
            self.is_closed(),
        )


class _Transport(MemoryTransport):
    """A memory transport that may be like one with TLS, which has no half-close."""

    def __init__(self, can_write_eof: bool) -> None:
        super().__init__()
        self._can_write_eof = can_write_eof

    def can_write_eof(self) -> bool:
        return self._can_write_eof


@pytest.fixture(scope="session")
def open_wire() -> type[Wire]:
    """Give ``open_wire(**settings)``: a fresh connection."""
    return Wire
