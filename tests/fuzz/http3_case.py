"""One HTTP/3 connection in memory under a hostile peer, and what it may not do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.fuzz.http3_check import check_output
from tests.fuzz.server import Case
from tests.fuzz.transport import StrictTransport

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djserve.interfaces import Connection, ConnectionInfo, StreamReceiver
    from tests.fuzz.http3_bytes import Step


class StrictStreams(StrictTransport):
    """QUIC's streams in memory (interfaces.MultiplexTransport), with a slow peer."""

    receiver: StreamReceiver  # type: ignore[assignment]

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.written: dict[int, bytearray] = {3: bytearray()}
        self.ended: set[int] = set()
        self.broken: set[int] = set()
        """Reset by one of both sides: what was written may be cut anywhere."""
        self.finished: set[int] = set()
        """On which the peer sends nothing more."""
        self.forgotten: set[int] = set()
        self.came: dict[int, int] = {}
        self.credit: dict[int, int] = {}
        self._pings = 0

    # The peer.

    def take(self, step: Step) -> None:
        """Have something of the peer's happen, as QUIC lets it."""
        stream_id = step.stream_id
        if self.is_closing or stream_id in self.finished:
            return
        if step.kind < 2:
            self.came[stream_id] = self.came.get(stream_id, 0) + len(step.data)
            if step.kind:
                self.finished.add(stream_id)
            if stream_id not in self.forgotten:
                self.receiver.stream_received(stream_id, step.data, bool(step.kind))
        elif step.kind == 2:
            self.finished.add(stream_id)
            if stream_id not in self.forgotten:
                self.receiver.stream_reset(stream_id, 0x10C)
        elif stream_id % 4 == 0 and stream_id in self.came:
            self.broken.add(stream_id)
            self.receiver.stream_stopped(stream_id, 0x10C)

    def read(self, size: int) -> None:
        super().read(size)
        if not self.is_closing:
            self.receiver.bytes_sent()

    def acknowledge_pings(self) -> None:
        """Answer what was asked."""
        pings, self._pings = self._pings, 0
        for _ in range(pings):
            if not self.is_closing:
                self.receiver.ping_acknowledged()

    # The protocol (interfaces.MultiplexTransport).

    def open_stream(self, is_unidirectional: bool = True) -> int:
        return 3

    def send_datagram(self, data: bytes) -> None:
        self.faults.append("a datagram without a session")

    def is_blocked(self, stream_id: int) -> bool:
        return False

    def has_begun(self, stream_id: int) -> bool:
        return stream_id in self.came or stream_id in self.finished

    def write_stream(self, stream_id: int, data: bytes, is_last: bool) -> None:
        if self.is_closing or stream_id in self.broken:
            return
        if stream_id in self.ended:
            self.faults.append(f"write on {stream_id} after its end: {data[:60]!r}")
        self.written.setdefault(stream_id, bytearray()).extend(data)
        if data:
            self.waiting += data
            self.most_waiting = max(self.most_waiting, len(self.waiting))
        if self.peer_reads:
            self.received += self.waiting
            self.waiting.clear()
        if is_last:
            self.ended.add(stream_id)

    def reset_stream(self, stream_id: int, code: int) -> None:
        self.broken.add(stream_id)

    def stop_stream(self, stream_id: int, code: int) -> None:
        pass

    def acknowledge(self, stream_id: int, size: int) -> None:
        credit = self.credit[stream_id] = self.credit.get(stream_id, 0) + size
        if size < 0 or credit > self.came.get(stream_id, 0):
            self.faults.append(f"credit of {credit} for stream {stream_id}")

    def forget_stream(self, stream_id: int) -> None:
        self.forgotten.add(stream_id)

    def set_priority(self, stream_id: int, urgency: int, is_incremental: bool) -> None:
        if not 0 <= urgency <= 7:
            self.faults.append(f"urgency {urgency}")

    def waiting_size(self, stream_id: int) -> int:
        # All wait together, in this network.
        written = self.written.get(stream_id, b"")
        return min(len(written), len(self.waiting))

    def sent_size(self, stream_id: int) -> int:
        return len(self.written.get(stream_id, b"")) - self.waiting_size(stream_id)

    @property
    def unacknowledged_size(self) -> int:
        return len(self.waiting)

    def ping(self) -> None:
        self._pings += 1

    def flush(self) -> None:
        pass

    def end(self, code: int, reason: str) -> None:
        self.abort()


class HTTP3Case(Case):
    """The whole server but for QUIC, from an input's steps to the connection's end."""

    transport: StrictStreams

    def _open(self, info: ConnectionInfo) -> None:
        self.transport = StrictStreams(self.loop)

        async def open_connection() -> Connection:
            connection: Connection = self.factory.open_streams(self.transport, info)  # type: ignore[assignment]
            return connection

        self.connection = self.loop.run_until_complete(open_connection())
        self.transport.receiver = self.connection  # type: ignore[assignment]

    def run_steps(self, steps: Iterable[Step]) -> None:
        """Live a connection's life of these steps, in datagrams of several."""
        self._steps = list(steps)
        self.run(bytes([number % 256]) for number in range(len(self._steps)))

    def _deliver(self, chunk: bytes) -> bool:
        """Take the next step: the chunk only counts."""
        if self.transport.is_closing:
            return False
        self.transport.take(self._steps.pop(0))
        if self.rng.random() < 0.7 and not self.transport.is_closing:
            self.transport.receiver.batch_received()
        if self.rng.random() < 0.3:
            self.transport.acknowledge_pings()
        return True

    def _finish(self) -> None:
        if not self.transport.is_closing:
            self.transport.receiver.batch_received()
        self.transport.acknowledge_pings()
        super()._finish()

    def _end(self) -> None:
        """End nothing: QUIC's streams end one by one."""

    def _check(self) -> None:
        super()._check()
        for stream_id, data in self.transport.written.items():
            is_whole = (
                stream_id not in self.transport.broken
                and stream_id in self.transport.ended
            )
            self.faults += check_output(stream_id, bytes(data), is_whole=is_whole)
