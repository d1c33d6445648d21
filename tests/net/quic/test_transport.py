"""One connection's transport: streams down, events up, timers, its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from djserve.net.quic.transport import QUICTransport

if TYPE_CHECKING:
    from tests.net.quic.conftest import Pair


class Host:
    """Carry datagrams to the client at once (transport.ConnectionHost)."""

    def __init__(self, pair: Pair) -> None:
        self.loop = asyncio.get_running_loop()
        self.pair = pair
        self.log: list[Any] = []
        self.transport = QUICTransport(pair.server, self)
        self.transport._take_events()
        self.base = self.loop.time()

    def now(self) -> float:
        return self.loop.time() - self.base + self.pair.now

    def send(self, datagrams: list[tuple[bytes, Any]]) -> None:
        for data, _ in datagrams:
            self.pair.client.receive_datagram(data, ("5.6.7.8", 443), now=self.now())

    def take(self) -> None:
        """Have what the client says read."""
        for data, _ in self.pair.client.datagrams_to_send(now=self.now()):
            self.transport.datagram_received(data, ("1.2.3.4", 5), self.loop.time())

    def open_receiver(self, transport: QUICTransport) -> Host:
        return self

    def id_issued(self, transport: QUICTransport, connection_id: bytes) -> None: ...
    def id_retired(self, connection_id: bytes) -> None: ...

    def terminated(self, transport: QUICTransport) -> None:
        self.log.append("terminated")

    def failed(self, transport: QUICTransport) -> None:
        raise AssertionError

    def stream_received(self, stream_id: int, data: bytes, is_last: bool) -> None:
        self.log.append((stream_id, data, is_last))

    def stream_reset(self, stream_id: int, code: int) -> None:
        self.log.append(("reset", stream_id, code))

    def stream_stopped(self, stream_id: int, code: int) -> None:
        self.log.append(("stopped", stream_id, code))

    def datagram_received(self, data: bytes) -> None: ...
    def batch_received(self) -> None: ...
    def ping_acknowledged(self) -> None:
        self.log.append("ping")

    def bytes_sent(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None:
        self.log.append("lost")


def converse(
    open_pair: Callable[..., Pair], conversation: Callable[[Host], Any]
) -> Host:
    async def run() -> Host:
        host = Host(open_pair())
        conversation(host)
        for _ in range(3):
            await asyncio.sleep(0)
        host.transport._engine._close_at = None
        return host

    return asyncio.run(run())


def test_events_come_up(open_pair: Callable[..., Pair]) -> None:
    def speak(host: Host) -> None:
        client = host.pair.client
        client.send_stream_data(0, b"data", end_stream=True)
        client.send_stream_data(4, b"part")
        host.take()
        client.reset_stream(4, 0x10C)
        client.stop_stream(0, 0x10C)
        host.take()

    host = converse(open_pair, speak)

    assert host.log[:2] == [(0, b"data", True), (4, b"part", False)]
    assert set(host.log[2:]) == {("stopped", 0, 0x10C), ("reset", 4, 0x10C)}


def test_forgotten_stream_is_silent(open_pair: Callable[..., Pair]) -> None:
    def speak(host: Host) -> None:
        client = host.pair.client
        client.send_stream_data(0, b"part")
        host.take()
        host.transport.forget_stream(0)
        client.send_stream_data(0, b"more")
        host.take()

    host = converse(open_pair, speak)

    assert host.log == [(0, b"part", False)]
    assert host.pair.server._used == 8


def test_end_is_told_later_and_once(open_pair: Callable[..., Pair]) -> None:
    def speak(host: Host) -> None:
        host.transport.end(0x100, "bye")
        assert host.log == []
        host.transport.end(0x101, "again")
        host.transport.write_stream(0, b"x", False)

    host = converse(open_pair, speak)

    assert host.log == ["lost"]
    close = host.pair.client._close_event
    assert close is not None
    assert close.error_code == 0x100
