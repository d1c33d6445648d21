"""The contract between a connection and its exchanges, checked at every call.

Both stand between the real ones and pass all calls on (interfaces.Exchange and Stream).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from djserve.interfaces import (
        Exchange,
        Headers,
        RequestHead,
        Stream,
        Transport,
        WireProtocol,
    )


class CheckedExchange:
    """Pass a connection's calls to an exchange; keep those that must not come."""

    def __init__(self, head: RequestHead, stream: CheckedStream) -> None:
        self.head = head
        self.stream = stream
        self.faults: list[str] = []
        self.content = bytearray()
        self.is_started = False
        self.is_complete = False
        self.is_lost = False
        self.inner: Exchange

    @property
    def is_running(self) -> bool:
        return self.inner.is_running

    def start(self) -> None:
        self._check("start", self.is_started)
        self.is_started = True
        self.inner.start()

    def data_received(self, data: bytes) -> None:
        self._check("data_received", not data or self.is_complete)
        self.content += data
        self.inner.data_received(data)

    def eof_received(self) -> None:
        self._check("eof_received", self.is_complete)
        self.is_complete = True
        self.inner.eof_received()

    def pause_writing(self) -> None:
        self._check("pause_writing")
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self._check("resume_writing")
        self.inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._check("connection_lost")
        self.is_lost = True
        self.inner.connection_lost(exc)

    def tick(self, now: float) -> None:
        self._check("tick")
        self.inner.tick(now)

    def drain(self) -> None:
        self._check("drain")
        self.inner.drain()

    def _check(self, call: str, is_wrong: bool = False) -> None:
        if is_wrong or self.is_lost or self.stream.is_ended:
            self.faults.append(f"{call} in {vars(self.stream)} {vars(self)}")


class CheckedStream:
    """Pass an exchange's calls to its stream; nothing may come after the end."""

    def __init__(self, inner: Stream) -> None:
        self.inner = inner
        self.exchange: CheckedExchange | None = None
        self.late_calls: list[str] = []
        self.is_ended = False
        self.is_aborted = False

    @property
    def is_writable(self) -> bool:
        return self.inner.is_writable

    @property
    def extensions(self) -> Mapping[str, dict[str, Any]]:
        return self.inner.extensions

    def send_informational(self, status: int, headers: Headers) -> None:
        self._check("send_informational")
        self.inner.send_informational(status, headers)

    def send_response(
        self, status: int, headers: Headers, data: bytes, more: bool
    ) -> None:
        self._end("send_response", more)
        self._try(lambda: self.inner.send_response(status, headers, data, more))

    def send_data(self, data: bytes, more: bool) -> None:
        self._end("send_data", more)
        self._try(lambda: self.inner.send_data(data, more))

    def send_trailers(self, headers: Headers) -> None:
        self._end("send_trailers", False)
        self._try(lambda: self.inner.send_trailers(headers))

    def push(self, path: str, headers: Headers) -> None:
        self._check("push")
        self.inner.push(path, headers)

    def upgrade(self, headers: Headers, receiver: WireProtocol) -> Transport:
        self._end("upgrade", False)
        return self.inner.upgrade(headers, receiver)

    def request_content(self) -> None:
        self._check("request_content")
        self.inner.request_content()

    def pause_reading(self) -> None:
        self._check("pause_reading")
        self.inner.pause_reading()

    def resume_reading(self) -> None:
        self._check("resume_reading")
        self.inner.resume_reading()

    def abort(self) -> None:
        self._check("abort")
        self.is_aborted = True
        self.inner.abort()

    def _check(self, call: str) -> None:
        assert self.exchange is not None
        if self.is_ended or self.exchange.is_lost:
            self.late_calls.append(call)

    def _end(self, call: str, more: bool) -> None:
        self._check(call)
        self.is_ended |= not more

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException:
            # What raises has sent nothing, so it has not ended the response.
            self.is_ended = False
            raise
