"""The whole server in memory, but for its sockets, under a hostile peer.

A ``Case`` is one connection from its first byte to its end, all of it decided by one
random source: a failure is repeated by its seed alone.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from djserve.asgi.application import ApplicationCalls
from djserve.asgi.scope import ScopeBuilder
from djserve.conf.schema import HTTP2Config, HTTPConfig, ServerConfig, WebSocketConfig
from djserve.errors import ApplicationError
from djserve.interfaces import ConnectionInfo
from djserve.server.factory import ConnectionFactory
from tests.fuzz.applications import Applications, Deliberate
from tests.fuzz.exchanges import CheckedExchange, CheckedStream
from tests.fuzz.transport import StrictTransport

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from djserve.errors import ProtocolError
    from djserve.instrumentation.events import RequestRecord
    from djserve.interfaces import Connection, Exchange, RequestHead, Stream

# Within this many seconds of silence each connection is over.
LIFE = 100

# What may wait for a peer that does not read: the transport's own mark, and what was
# on its way when it was reached.
BACKLOG_LIMIT = 512 * 1024

SMALL = ServerConfig(
    http=HTTPConfig(
        request_line_limit=200,
        header_size_limit=600,
        header_count_limit=12,
        body_size_limit=200_000,
        keep_alive_timeout=6.0,
        request_timeout=30.0,
    ),
    http2=HTTP2Config(
        http2_stream_limit=8,
        http2_call_limit=8,
        http2_stream_window_size=2048,
        http2_connection_window_size=65535,
        http2_reset_limit=20,
        http2_control_frame_limit=200,
        http2_fragment_limit=3,
        http2_ping_interval=4.0,
        http2_ping_timeout=4.0,
    ),
    websocket=WebSocketConfig(
        websocket_message_size_limit=30_000,
        websocket_frame_size_limit=20_000,
        websocket_queue_limit=3,
        websocket_ping_interval=4.0,
        websocket_ping_timeout=4.0,
    ),
)


class Log:
    """What the access log would hear; each request has one end."""

    def __init__(self) -> None:
        self.states: dict[int, str] = {}
        self.records: list[RequestRecord] = []
        self.faults: list[str] = []

    def request_finished(self, record: RequestRecord) -> None:
        self._change(record, None, "finished")

    def websocket_connecting(self, record: RequestRecord) -> None:
        self._change(record, None, "connecting")

    def websocket_accepted(self, record: RequestRecord) -> None:
        self._change(record, "connecting", "accepted")

    def websocket_rejected(self, record: RequestRecord) -> None:
        if id(record) in self.states:
            self._change(record, "connecting", "finished")
        else:
            self._change(record, None, "finished")

    def websocket_closed(self, record: RequestRecord) -> None:
        self._change(record, "accepted", "finished")

    def _change(self, record: RequestRecord, before: str | None, after: str) -> None:
        # Kept, so that no other record gets its id.
        self.records.append(record)
        state = self.states.get(id(record))
        if state != before:
            self.faults.append(f"log: {state} -> {after}")
        self.states[id(record)] = after


class CheckedFactory(ConnectionFactory):
    """A factory that keeps every exchange, and what was refused without one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.exchanges: list[CheckedExchange] = []
        self.heads: list[RequestHead | None] = []
        self.refused: list[RequestHead | None] = []

    def open_exchange(
        self, head: RequestHead, info: ConnectionInfo, stream: Stream
    ) -> Exchange:
        checked = CheckedStream(stream)
        exchange = CheckedExchange(head, checked)
        checked.exchange = exchange
        exchange.inner = super().open_exchange(head, info, checked)
        self.exchanges.append(exchange)
        self.heads.append(head)
        return exchange

    def request_refused(
        self, head: RequestHead | None, info: ConnectionInfo, error: ProtocolError
    ) -> None:
        self.refused.append(head)
        if not self.heads or self.heads[-1] is not head:
            self.heads.append(head)
        super().request_refused(head, info, error)


class Errors(logging.Handler):
    """Keep what is logged as an error that no application has made."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if record.msg.startswith(("Application call for", "Answered ")):
            # Cancelled since it outlived its client, or its time: as it should be.
            return
        if not isinstance(error, Deliberate | ApplicationError):
            self.faults.append(self.format(record))


class Case:
    """One connection and all that happens to it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        *,
        alpn: str = "",
        config: ServerConfig = SMALL,
        is_tame: bool = False,
    ) -> None:
        self.loop = loop
        self.rng = rng
        self.is_tame = is_tame
        self.now = 0.0
        self.config = config
        self.most_calls = 0
        self.log = Log()
        self.faults: list[str] = []
        self.applications = Applications(rng, is_tame=is_tame)
        self.calls = ApplicationCalls(self.applications, loop, 5.0)
        self.factory = CheckedFactory(
            config, self.calls, ScopeBuilder(state={}), self.log
        )
        self.transport = StrictTransport(loop, can_write_eof=rng.random() < 0.7)
        info = ConnectionInfo(("192.0.2.1", 50000), ("192.0.2.2", 80), alpn=alpn)
        self.connection: Connection
        self._open(info)

    def _open(self, info: ConnectionInfo) -> None:
        async def open_connection() -> Connection:
            return self.factory.open_connection(self.transport, info)

        self.connection = self.loop.run_until_complete(open_connection())
        self.transport.set_protocol(self.connection)

    # The peer's doing.

    def run(self, chunks: Iterable[bytes]) -> None:
        """Live one connection's life; unless it is tame with breaks and delays."""
        errors = Errors()
        self.loop.set_exception_handler(
            lambda loop, context: self.faults.append(f"loop: {context}")
        )
        loggers = [logging.getLogger(name) for name in ("djserve", "asyncio")]
        for logger in loggers:
            logger.addHandler(errors)
        try:
            for chunk in chunks:
                self._note_calls()
                if not self.is_tame:
                    self._disturb()
                if not self._deliver(chunk):
                    break
            self._finish()
        finally:
            for logger in loggers:
                logger.removeHandler(errors)
        self.faults += errors.faults
        self._check()

    def turn(self, count: int = 1) -> None:
        """Run the loop for as many turns."""
        for _ in range(count):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.factory.tick(self.now)
        self.calls.tick(self.now)
        if not self.transport.is_lost:
            self.connection.tick(self.now)

    def _note_calls(self) -> None:
        self.most_calls = max(self.most_calls, len(self.calls))

    def _disturb(self) -> None:
        action = self.rng.choice(_DISTURBANCES)
        action(self)

    def _turn_some(self) -> None:
        self.turn(self.rng.randrange(1, 6))

    def _stop_reading(self) -> None:
        self.transport.peer_reads = False

    def _read_some(self) -> None:
        self.transport.read(self.rng.choice((1, 1000, 100_000)))

    def _read_all(self) -> None:
        self.transport.peer_reads = True
        self.transport.read(1 << 30)

    def _wait(self) -> None:
        self.tick(self.rng.choice((0.5, 1.0, 1.0, 5.0, 11.0)))

    def _release(self) -> None:
        self.applications.hold.set()

    def _hold(self) -> None:
        self.applications.hold.clear()

    def _drain(self) -> None:
        if self.rng.random() < 0.2 and not self.transport.is_lost:
            self.connection.drain()

    def _retire(self) -> None:
        """Do what a stopping server does first; ``_drain`` may follow."""
        retire = getattr(self.connection, "retire", None)
        if retire and self.rng.random() < 0.3 and not self.transport.is_lost:
            retire()

    def _end(self) -> None:
        if self.rng.random() < 0.1:
            self.transport.deliver_eof()

    def _break(self) -> None:
        if self.rng.random() < 0.1:
            self.transport.reset()

    def _nothing(self) -> None:
        pass

    def _deliver(self, chunk: bytes) -> bool:
        """Deliver a chunk once it is wanted; False where the connection has ended."""
        for patience in range(200):
            if self.transport.is_closing:
                return False
            if not self.transport.is_paused:
                self.transport.deliver(chunk)
                return True
            # A peer that only waits can count on the server to read on some day.
            self._read_all()
            if patience > 5:
                self._release()
                self._settle()
            self.turn(2)
        self.faults.append("reading stays paused for good")
        return False

    def _finish(self) -> None:
        self._release()
        self._read_all()
        self.turn(10)
        self._note_calls()
        self._settle()
        for _ in range(LIFE):
            if self.transport.is_lost:
                break
            self.tick(1.0)
            self._read_all()
            self.turn(2)
        else:
            self.faults.append(f"open after {LIFE} silent seconds")
            self.transport.reset()
        for _ in range(30):
            self.turn()
            if not len(self.calls):
                return
        for _ in range(10):
            self.tick(1.0)
            self.turn(3)

    def _settle(self) -> None:
        """Let the loop turn until nothing happens any more."""
        before = -1
        while before != (before := len(self.transport.received)):
            self.turn(30)

    def _check(self) -> None:
        transport, factory = self.transport, self.factory
        self.faults += transport.faults + self.log.faults
        for exchange in factory.exchanges:
            self.faults += exchange.faults
            self.faults += [f"late {call}" for call in exchange.stream.late_calls]
            stream = exchange.stream
            if not (exchange.is_lost or stream.is_ended or stream.is_aborted):
                self.faults.append("an exchange without an end")
        open_records = [s for s in self.log.states.values() if s != "finished"]
        if open_records:
            self.faults.append(f"not finished in the log: {open_records}")
        if len(self.log.states) != len(factory.exchanges) + self._refusals():
            self.faults.append(
                f"{len(self.log.states)} log entries, {len(factory.exchanges)} "
                f"exchanges, {self._refusals()} refusals"
            )
        if len(self.calls):
            self.faults.append(f"{len(self.calls)} calls still run")
        if factory.connections:
            self.faults.append("the factory keeps a connection that has ended")
        if self.most_calls > self.config.http2.http2_call_limit:
            self.faults.append(f"{self.most_calls} calls at the same time")
        if transport.most_waiting > BACKLOG_LIMIT:
            self.faults.append(f"{transport.most_waiting} bytes waited for the peer")

    def _refusals(self) -> int:
        """Count what was refused without an exchange, that is without its own entry."""
        opened = [exchange.head for exchange in self.factory.exchanges]
        return sum(
            all(head is not other for other in opened) for head in self.factory.refused
        )


_DISTURBANCES = [
    *[Case._nothing] * 8,
    *[Case._turn_some] * 6,
    *[Case._read_all] * 3,
    Case._stop_reading,
    Case._read_some,
    Case._wait,
    Case._release,
    Case._hold,
    Case._drain,
    Case._retire,
    Case._end,
    Case._break,
]
