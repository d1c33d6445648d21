"""A request that djserve's own server carries to the application, without a socket.

The exchange and the calls are the real ones, so that a handler may answer without a
task; the stream hands what is sent to the client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from djserve.asgi.application import ApplicationCalls
from djserve.asgi.http import HTTPExchange
from djserve.handlers.direct import DirectCall, DirectLane
from djserve.interfaces import RequestHead

if TYPE_CHECKING:
    from djserve.interfaces import Headers

Hear = Callable[[dict[str, Any]], None]

CLOSE_TIMEOUT = 0.0
PATIENCE = 60.0


class CallCounter:
    """Counts the calls that begin without a task, while it is entered."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> CallCounter:
        self._begin = begin = DirectLane.begin

        def counting(lane: DirectLane, exchange: Any) -> DirectCall | None:
            call = begin(lane, exchange)
            self.count += call is not None
            return call

        DirectLane.begin = counting  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *args: object) -> None:
        DirectLane.begin = self._begin  # type: ignore[method-assign]


class _Faults(logging.Handler):
    """Keeps the exception that the server logs."""

    def __init__(self) -> None:
        super().__init__()
        self.error: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        assert record.exc_info is not None
        self.error = record.exc_info[1]


class _Stream:
    """Turns what the exchange sends back into the application's messages."""

    is_writable = True

    def __init__(self, extensions: Mapping[str, dict[str, Any]], faults: _Faults):
        self.extensions = extensions
        self.hear: Hear = lambda message: None
        self._faults = faults

    def send_response(
        self, status: int, headers: Headers, data: bytes, more: bool
    ) -> None:
        start = {"type": "http.response.start", "status": status, "headers": headers}
        self._pass_on(start)
        self.send_data(data, more)

    def send_data(self, data: bytes, more: bool) -> None:
        self._pass_on({"type": "http.response.body", "body": data, "more_body": more})

    def request_content(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def abort(self) -> None: ...

    def _pass_on(self, message: dict[str, Any]) -> None:
        # What follows a fault is the server's own answer.
        if self._faults.error is None:
            self.hear(message)


async def carry(
    application: Any,
    scope: dict[str, Any],
    body: list[bytes],
    gone: asyncio.Event,
    hear: Hear,
) -> None:
    """Make a request; raises what the application has raised."""
    faults = _Faults()
    logger = logging.getLogger("djserve.error")
    logger.addHandler(faults)
    calls = ApplicationCalls(application, asyncio.get_running_loop(), CLOSE_TIMEOUT)
    stream: Any = _Stream(scope.get("extensions", {}), faults)
    stream.hear = hear
    head = RequestHead(scope["method"], scope["raw_path"], b"", [], "1.1")
    exchange = HTTPExchange(head, scope, stream, calls)
    leaving = asyncio.create_task(_leave(exchange, gone))
    try:
        for chunk in body:
            exchange.data_received(chunk)
        if body:
            exchange.eof_received()
        exchange.start()
        await calls.wait(PATIENCE)
        assert not len(calls)
    finally:
        leaving.cancel()
        logger.removeHandler(faults)
    if faults.error is not None:
        raise faults.error


async def _leave(exchange: HTTPExchange, gone: asyncio.Event) -> None:
    await gone.wait()
    if not exchange.has_ended():
        exchange.connection_lost(None)
