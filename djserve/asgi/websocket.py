"""One WebSocket as an ASGI conversation, from the handshake to the disconnect.

Before the application accepts it is an exchange on a request's stream, like HTTP's;
afterwards it observes the connection that the stream was upgraded to.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, ClassVar, Protocol

from djserve.asgi.application import log_fault
from djserve.errors import ApplicationError, ClientDisconnected, UnexpectedMessage
from djserve.interfaces import WireProtocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from djserve.asgi.application import ApplicationCalls
    from djserve.asgi.types import Message, Scope
    from djserve.conf.schema import WebSocketConfig
    from djserve.interfaces import Headers, RequestHead, Stream, Transport

    Action = Callable[["WebSocketExchange", Message], None]

_ERROR_HEADERS: Headers = [(b"content-type", b"text/plain; charset=utf-8")]

# RFC 6455 section 7.4.
_NORMAL = 1000
_ABNORMAL = 1006
_INTERNAL_ERROR = 1011
_SERVICE_RESTART = 1012


class Connection(WireProtocol, Protocol):
    """What the exchange asks of an open WebSocket (protocols.websocket.connection)."""

    def attach(self, transport: Transport) -> None: ...
    def send_text(self, text: str) -> None: ...
    def send_binary(self, data: bytes) -> None: ...
    def close(self, code: int, reason: str) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class OpeningHandshake(Protocol):
    """What it asks of a client's handshake (protocols.websocket.handshake)."""

    def accept(
        self,
        observer: WebSocketExchange,
        config: WebSocketConfig,
        *,
        subprotocol: str | None,
        headers: Iterable[tuple[bytes, bytes]],
        write_timeout: float,
    ) -> tuple[Headers, Connection]: ...


class WebSocketEntry(Protocol):
    """What is told of one WebSocket to the logs (server.records)."""

    def accepted(self) -> None: ...
    def rejected(self, status: int, /) -> None:
        """It was refused with this status, 0 where the client had gone before."""

    def closed(self, code: int, /) -> None: ...


class WebSocketExchange:
    """Carry one WebSocket to the application.

    What the application may send is a table for each state: CONNECTING until it has
    accepted or refused, DENYING and DENIED with the parts of a denial response, OPEN,
    CLOSED once it has closed or refused, DISCONNECTED once anyone else ended it.
    """

    __slots__ = (
        "_actions",
        "_calls",
        "_config",
        "_connection",
        "_denial",
        "_entry",
        "_handshake",
        "_inbox",
        "_inbox_size",
        "_is_reading_paused",
        "_is_writing_paused",
        "_readers",
        "_started_at",
        "_stream",
        "_write_timeout",
        "_writers",
        "head",
        "scope",
    )

    def __init__(
        self,
        scope: Scope,
        head: RequestHead,
        handshake: OpeningHandshake,
        stream: Stream,
        config: WebSocketConfig,
        *,
        write_timeout: float,
        calls: ApplicationCalls,
        entry: WebSocketEntry | None = None,
    ) -> None:
        self.scope = scope
        self.head = head
        self._handshake = handshake
        self._stream = stream
        self._config = config
        self._write_timeout = write_timeout
        self._calls = calls
        self._entry = entry
        self._actions = self._CONNECTING
        self._connection: Connection | None = None
        self._denial: tuple[int, Iterable[tuple[bytes, bytes]]] | None = None
        # Messages of the peer as they are; those about the connection in full.
        self._inbox: deque[str | bytes | dict[str, object]] = deque()
        self._inbox.append({"type": "websocket.connect"})
        self._inbox_size = 0
        self._is_reading_paused = False
        self._is_writing_paused = False
        self._readers: list[asyncio.Future[None]] = []
        self._writers: list[asyncio.Future[None]] = []
        self._started_at: float | None = None

    def start(self) -> None:
        """Run the application."""
        self._calls.start(self)

    # Upward, before the upgrade: the stream calls these (interfaces.Exchange).

    def data_received(self, data: bytes) -> None:
        """Refuse what comes before the handshake is complete (RFC 6455 section 4.1)."""
        self._stream.abort()
        self.connection_lost(None)

    def eof_received(self) -> None:
        """The request has no content."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone before it was accepted or refused."""
        if self._is_undecided():
            self._note_rejection(0)
        self._disconnect(_ABNORMAL, "")

    def tick(self, now: float) -> None:
        """Answer 503 where the application has not decided in time."""
        if self._started_at is None:
            self._started_at = now
            return
        elapsed = now - self._started_at
        if elapsed >= self._config.websocket_connect_timeout and self._is_undecided():
            self._refuse(503, b"Service Unavailable")
            self._calls.cancel(self)

    def drain(self) -> None:
        """Refuse what is not accepted yet: the client finds another server at once."""
        if self._is_undecided():
            self._refuse(503, b"Service Unavailable")

    # Upward, after it: the connection calls these (protocols.websocket.Observer).

    def message_received(self, data: str | bytes) -> None:
        """Keep a message for the application; where there are many, stop the peer."""
        self._inbox.append(data)
        self._inbox_size += len(data)
        if not self._is_reading_paused and (
            len(self._inbox) >= self._config.websocket_queue_limit
            or self._inbox_size >= self._config.websocket_message_size_limit
        ):
            self._is_reading_paused = True
            assert self._connection is not None
            self._connection.pause_reading()
        if self._readers:
            _wake(self._readers)

    def closed(self, code: int, reason: str) -> None:
        """The WebSocket has ended, or the closing handshake has begun."""
        if self._entry is not None:
            self._entry.closed(code)
        self._disconnect(code, reason)

    def pause_writing(self) -> None:
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        if self._writers:
            _wake(self._writers)

    # The application calls these two.

    async def receive(self) -> Message:
        """Return the next message: first ``connect``, last ``disconnect``.

        Raises ClientDisconnected after that. Every call would return at once, so an
        application that did not look at what it gets would hold the loop for ever.
        """
        while not self._inbox:
            if self._has_ended():
                raise ClientDisconnected
            await _wait(self._readers)
        item = self._inbox.popleft()
        if isinstance(item, dict):
            return item
        self._inbox_size -= len(item)
        if self._is_reading_paused:
            self._resume_reading()
        if isinstance(item, str):
            return {"type": "websocket.receive", "text": item}
        return {"type": "websocket.receive", "bytes": item}

    async def send(self, message: Message) -> None:
        """Take one message from the application.

        Returns once the peer can take more. Raises ClientDisconnected (an OSError)
        after a disconnect, ApplicationError for what the contract does not allow.
        """
        # A second sender would not stop at what the first has been stopped by.
        if self._is_writing_paused:
            await self._writable()
        try:
            action = self._actions.get(message["type"])
        except (TypeError, KeyError):
            raise ApplicationError(
                f"An ASGI message is a dict with a type, got {message!r:.100}"
            ) from None
        if action is None:
            if self._actions is self._DISCONNECTED:
                raise ClientDisconnected
            raise UnexpectedMessage(message["type"], self._state_name())
        action(self, message)
        if self._is_writing_paused:
            await self._writable()

    # The application's end.

    def application_finished(self) -> None:
        """End the conversation for an application that has returned."""
        if self._actions is self._OPEN:
            self._close(_NORMAL, "")
        elif not self._has_ended():
            error = ApplicationError(
                "The application returned without accepting or refusing the WebSocket"
            )
            log_fault(self.scope, error)
            self.application_failed(error)

    def application_failed(self, error: BaseException) -> None:
        """Answer 500, or close with 1011; break off what cannot be taken back."""
        is_cancelled = isinstance(error, asyncio.CancelledError)
        if self._actions is self._OPEN:
            if is_cancelled:
                self._close(_SERVICE_RESTART, "")
            else:
                self._close(_INTERNAL_ERROR, "Internal Server Error")
        elif self._is_undecided():
            if is_cancelled:
                self._refuse(503, b"Service Unavailable")
            else:
                self._refuse(500, b"Internal Server Error")
        elif not self._has_ended():
            self._stream.abort()
            self._disconnect(_ABNORMAL, "")

    # Messages: one method each, by state in the tables below.

    def _on_accept(self, message: Message) -> None:
        subprotocol = message.get("subprotocol")
        if subprotocol is not None and not isinstance(subprotocol, str):
            raise _wrong_type("websocket.accept", "subprotocol", "str", subprotocol)
        headers, connection = self._handshake.accept(
            self,
            self._config,
            subprotocol=subprotocol,
            headers=message.get("headers") or (),
            write_timeout=self._write_timeout,
        )
        self._connection = connection
        self._actions = self._OPEN
        connection.attach(self._stream.upgrade(headers, connection))
        if self._entry is not None:
            self._entry.accepted()

    def _on_send(self, message: Message) -> None:
        assert self._connection is not None
        text, data = message.get("text"), message.get("bytes")
        if (text is None) is (data is None):
            raise ApplicationError(
                "websocket.send: expected either text or bytes, got "
                + ("neither" if text is None else "both")
            )
        if text is not None:
            self._send_text(self._connection, text)
        elif isinstance(data, bytes):
            self._connection.send_binary(data)
        elif isinstance(data, bytearray | memoryview):
            self._connection.send_binary(bytes(data))
        else:
            raise _wrong_type("websocket.send", "bytes", "bytes", data)

    def _send_text(self, connection: Connection, text: object) -> None:
        if not isinstance(text, str):
            raise _wrong_type("websocket.send", "text", "str", text)
        try:
            connection.send_text(text)
        except UnicodeEncodeError as error:
            raise ApplicationError(f"websocket.send: {error}") from error

    def _on_close(self, message: Message) -> None:
        code, reason = message.get("code"), message.get("reason")
        if code is not None and type(code) is not int:
            raise _wrong_type("websocket.close", "code", "int", code)
        if reason is not None and not isinstance(reason, str):
            raise _wrong_type("websocket.close", "reason", "str", reason)
        try:
            self._close(_NORMAL if code is None else code, reason or "")
        except ValueError as error:
            raise ApplicationError(f"websocket.close: {error}") from error

    def _on_refuse(self, message: Message) -> None:
        self._stream.send_response(403, _ERROR_HEADERS, b"Forbidden", more=False)
        self._note_rejection(403)
        self._end_denial()

    def _on_denial_start(self, message: Message) -> None:
        status = message.get("status")
        if type(status) is not int or not 200 <= status <= 999:
            raise ApplicationError(
                f"Response status must be an int from 200 to 999, got {status!r:.100}"
            )
        self._denial = (status, message.get("headers") or ())
        self._actions = self._DENYING

    def _on_first_denial_body(self, message: Message) -> None:
        assert self._denial is not None
        status, headers = self._denial
        body, more = _take_body(message)
        self._stream.send_response(status, list(headers), body, more)
        self._note_rejection(status)
        self._after_denial_body(more)

    def _on_denial_body(self, message: Message) -> None:
        body, more = _take_body(message)
        self._stream.send_data(body, more)
        self._after_denial_body(more)

    def _after_denial_body(self, more: bool) -> None:
        if not more:
            self._end_denial()
        elif self._actions is not self._DISCONNECTED:
            self._actions = self._DENIED
            self._is_writing_paused = not self._stream.is_writable

    def _on_late_close(self, message: Message) -> None:
        """Do nothing: consumers close in their disconnect handlers too."""

    _CONNECTING: ClassVar[dict[str, Action]] = {
        "websocket.accept": _on_accept,
        "websocket.close": _on_refuse,
        "websocket.http.response.start": _on_denial_start,
    }
    _DENYING: ClassVar[dict[str, Action]] = {
        "websocket.http.response.body": _on_first_denial_body
    }
    _DENIED: ClassVar[dict[str, Action]] = {
        "websocket.http.response.body": _on_denial_body
    }
    _OPEN: ClassVar[dict[str, Action]] = {
        "websocket.send": _on_send,
        "websocket.close": _on_close,
    }
    _CLOSED: ClassVar[dict[str, Action]] = {"websocket.close": _on_late_close}
    # Equal to _CLOSED in what it allows; told apart by identity.
    _DISCONNECTED: ClassVar[dict[str, Action]] = {"websocket.close": _on_late_close}

    # Private.

    def _is_undecided(self) -> bool:
        return self._actions is self._CONNECTING or self._actions is self._DENYING

    def _has_ended(self) -> bool:
        return self._actions is self._CLOSED or self._actions is self._DISCONNECTED

    def _state_name(self) -> str:
        names = ("CONNECTING", "DENYING", "DENIED", "OPEN")
        tables = {name: getattr(self, f"_{name}") for name in names}
        return next(
            (name for name, table in tables.items() if table is self._actions), "CLOSED"
        )

    def _close(self, code: int, reason: str) -> None:
        assert self._connection is not None
        self._connection.close(code, reason)
        self._actions = self._CLOSED

    def _refuse(self, status: int, body: bytes) -> None:
        """Answer instead of the application."""
        self._note_rejection(status)
        self._disconnect(_ABNORMAL, "")
        self._stream.send_response(status, _ERROR_HEADERS, body, more=False)

    def _end_denial(self) -> None:
        # The stream may have been lost while it took the last part.
        if self._actions is not self._DISCONNECTED:
            self._actions = self._CLOSED
            self._end_inbox(_ABNORMAL, "")

    def _note_rejection(self, status: int) -> None:
        if self._entry is not None:
            self._entry.rejected(status)

    def _disconnect(self, code: int, reason: str) -> None:
        if self._has_ended():
            return
        self._actions = self._DISCONNECTED
        self._end_inbox(code, reason)
        self._calls.abandon(self)

    def _end_inbox(self, code: int, reason: str) -> None:
        self._inbox.append(
            {"type": "websocket.disconnect", "code": code, "reason": reason}
        )
        _wake(self._readers)
        self.resume_writing()

    def _resume_reading(self) -> None:
        """Let the peer go on once half of what was waiting is gone."""
        config = self._config
        if (
            len(self._inbox) <= config.websocket_queue_limit // 2
            and self._inbox_size <= config.websocket_message_size_limit // 2
        ):
            self._is_reading_paused = False
            assert self._connection is not None
            self._connection.resume_reading()

    async def _writable(self) -> None:
        """Wait until the peer takes more or has gone."""
        while self._is_writing_paused:
            await _wait(self._writers)


async def _wait(waiters: list[asyncio.Future[None]]) -> None:
    waiter = asyncio.get_running_loop().create_future()
    waiters.append(waiter)
    await waiter


def _wake(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()


def _take_body(message: Message) -> tuple[bytes, bool]:
    body = message.get("body", b"")
    if not isinstance(body, bytes | bytearray | memoryview):
        raise _wrong_type(message["type"], "body", "bytes", body)
    return bytes(body), bool(message.get("more_body", False))


def _wrong_type(
    message_type: str, key: str, expected: str, value: object
) -> ApplicationError:
    return ApplicationError(
        f"{message_type}: {key} must be {expected}, got {value!r:.100}"
    )
