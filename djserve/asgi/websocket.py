"""One WebSocket as an ASGI conversation, from the handshake to the disconnect.

Before the application accepts it is an exchange on a request's stream, like HTTP's;
afterwards it observes the connection that the stream was upgraded to.
"""

# The states, and who may end each
#
# The table that ``_actions`` refers to is the state. A message without an entry is an
# error of the application; there is no other check of the order.
#
#   CONNECTING  --accept-->  OPEN  --close-->  CLOSED
#       |  |
#       |  +--close: 403----------------->     CLOSED
#       +--response.start-->  DENYING  --body-->  DENIED  --last body-->  CLOSED
#   any but CLOSED  --the peer, a timeout, a drain, the server-->  DISCONNECTED
#
# CLOSED and DISCONNECTED allow the same, a late ``close`` without effect. They differ
# in what they say of any other message: an application that has closed has made a
# mistake, while one that was disconnected cannot have known, and gets
# ClientDisconnected.
#
# A denial's head is kept until its first body (DENYING): the status goes out with
# content, and until then a timeout or the application's failure can still answer with
# another status (``is_undecided``). From the first body on, only an abort is left.
#
# The application is told of its own ``close``, too: the connection calls ``closed``
# while ``_close`` is still under way, so the disconnect message is in the inbox before
# the state becomes CLOSED. From then on its call has APPLICATION_CLOSE_TIMEOUT to end.
# An application that returns without a decision has failed (500); one that returns
# while it is OPEN closes normally (1000).
#
# The time to decide does not include what the server made the application wait for,
# such as a thread (``waiting_time``): a busy pool would otherwise turn into refusals
# that the application gets blamed for.

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar

from djserve.asgi.application import log_fault
from djserve.asgi.consumers import attend_consumers
from djserve.asgi.http_messages import take_body
from djserve.asgi.inbox import Inbox, wait, wake
from djserve.asgi.outcomes import refusal_status
from djserve.asgi.websocket_messages import (
    take_close,
    take_data,
    take_denial,
    take_subprotocol,
    take_type,
)
from djserve.errors import (
    ApplicationError,
    ClientDisconnected,
    SendAfterClose,
    UnexpectedMessage,
)
from djserve.instrumentation.limits import note_unavailable
from djserve.interfaces import (
    CLOSE_ABNORMAL,
    CLOSE_INTERNAL_ERROR,
    CLOSE_NORMAL,
    CLOSE_SERVICE_RESTART,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Any

    from djserve.asgi.application import ApplicationCalls
    from djserve.asgi.types import Message, Scope, WebSocketEntry
    from djserve.conf.schema import WebSocketConfig
    from djserve.interfaces import OpeningHandshake, RequestHead, Stream, WebSocket

    Actions = dict[str, Callable[["WebSocketExchange", Message], None]]

_ERROR_HEADERS = [(b"content-type", b"text/plain; charset=utf-8")]

SENDS_IN_A_TURN = 256
"""Messages that an application sends before other connections have their turn."""


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
        "_is_writing_paused",
        "_started_at",
        "_stream",
        "_unpaused",
        "_write_timeout",
        "_writers",
        "head",
        "scope",
        "waiting_time",
    )

    _connection: WebSocket  # set by accept

    def __init__(
        self,
        scope: Scope,
        head: RequestHead,
        handshake: OpeningHandshake[WebSocketConfig],
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
        self._denial: tuple[int, Iterable[tuple[bytes, bytes]]] | None = None
        self._inbox = Inbox(
            config.websocket_queue_limit,
            config.websocket_message_size_limit,
            self._pause_reading,
            self._resume_reading,
        )
        self._is_writing_paused = False
        self._unpaused = 0
        self._writers: list[asyncio.Future[None]] = []
        self._started_at: float | None = None
        self.waiting_time: Callable[[], float] | None = None
        """Returns the seconds for which the server let the application wait."""

    @property
    def is_running(self) -> bool:
        """Whether the application call has begun and not ended."""
        return self._calls.is_running(self)

    @property
    def held_size(self) -> int:
        """Bytes of messages that wait for the application."""
        return self._inbox.size

    def start(self) -> None:
        """Run the application."""
        attend_consumers()
        self._calls.start(self)

    # Upward, before the upgrade: the stream calls these (interfaces.Exchange).

    def data_received(self, data: bytes) -> None:
        """Refuse what comes before the handshake is complete (RFC 6455 section 4.1)."""
        self._stream.abort()
        self.connection_lost(None)

    def eof_received(self) -> None:
        """Do nothing: the request has no content."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone before it was accepted or refused."""
        if self.is_undecided():
            self._note_rejection(0)
        self._disconnect(CLOSE_ABNORMAL, "")

    def tick(self, now: float) -> None:
        """Answer 503 if the application has not decided in time."""
        if self._started_at is None:
            self._started_at = now
            return
        elapsed = now - self._started_at
        if self.waiting_time is not None:
            elapsed -= self.waiting_time()
        if elapsed >= self._config.websocket_connect_timeout and self.is_undecided():
            timeout = self._config.websocket_connect_timeout
            note_unavailable(
                "WEBSOCKET_CONNECT_TIMEOUT",
                f"neither accepted nor refused in {timeout:g} s",
                self.scope,
            )
            self._refuse(503)
            self._calls.cancel(self)

    def drain(self) -> None:
        """Refuse what is not accepted yet: the client finds another server at once."""
        if self.is_undecided():
            self._refuse(503)

    # Upward, after it: the connection calls these (WebSocketObserver).

    def message_received(self, data: str | bytes) -> None:
        """Keep a message for the application; if there are many, stop the peer."""
        self._inbox.put(data)

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
            wake(self._writers)

    # The application calls these two.

    def receive(self) -> Coroutine[Any, Any, Message]:
        """Return the next message: first ``connect``, last ``disconnect``.

        Raises ClientDisconnected after that.
        """
        return self._inbox.receive()

    async def send(self, message: Message) -> None:
        """Take one message from the application.

        Returns once the peer can take more. Raises ClientDisconnected (an OSError)
        after a disconnect, ApplicationError for what the contract does not allow.
        """
        # A second sender would not stop at what the first has been stopped by.
        if self._is_writing_paused:
            await self._writable()
        message_type = take_type(message)
        action = self._actions.get(message_type)
        if action is None:
            if self._actions is self._DISCONNECTED:
                raise ClientDisconnected
            if self._actions is self._CLOSED and message_type == "websocket.send":
                raise SendAfterClose(message_type, "CLOSED")
            raise UnexpectedMessage(message_type, self._state_name())
        action(self, message)
        if self._is_writing_paused:
            await self._writable()
            return
        # A client that reads as fast as it is written to, or whose connection has just
        # failed, pauses no one: the loop would not even learn that it has gone.
        self._unpaused = (self._unpaused + 1) % SENDS_IN_A_TURN
        if not self._unpaused:
            await asyncio.sleep(0)

    # The application's end.

    def application_finished(self) -> None:
        """End the conversation for an application that has returned."""
        if self._actions is self._OPEN:
            self._close(CLOSE_NORMAL, "")
        elif not self._has_ended():
            error = ApplicationError("The application returned without a decision")
            log_fault(self.scope, error)
            self.application_failed(error)

    def application_failed(self, error: BaseException) -> None:
        """Answer 500, or close with 1011; abort what cannot be taken back."""
        is_cancelled = isinstance(error, asyncio.CancelledError)
        if self._actions is self._OPEN:
            self._close(
                CLOSE_SERVICE_RESTART if is_cancelled else CLOSE_INTERNAL_ERROR, ""
            )
        elif self.is_undecided():
            self._refuse(refusal_status(error))
        elif not self._has_ended():
            self._stream.abort()
            self._disconnect(CLOSE_ABNORMAL, "")

    # Messages: one method each, by state in the tables below.

    def _on_accept(self, message: Message) -> None:
        headers, connection = self._handshake.accept(
            self,
            self._config,
            subprotocol=take_subprotocol(message),
            headers=message.get("headers") or (),
            write_timeout=self._write_timeout,
        )
        self._connection = connection
        self._actions = self._OPEN
        connection.attach(self._stream.upgrade(headers, connection))
        if self._entry is not None:
            self._entry.accepted()

    def _on_send(self, message: Message) -> None:
        data = take_data(message)
        if isinstance(data, bytes):
            self._connection.send_binary(data)
            return
        try:
            self._connection.send_text(data)
        except UnicodeEncodeError as error:
            raise ApplicationError(f"websocket.send: {error}") from error

    def _on_close(self, message: Message) -> None:
        code, reason = take_close(message)
        try:
            self._close(code, reason)
        except ValueError as error:
            raise ApplicationError(f"websocket.close: {error}") from error

    def _on_refuse(self, message: Message) -> None:
        self._send_refusal(403)
        self._end_denial()

    def _on_denial_start(self, message: Message) -> None:
        self._denial = take_denial(message)
        self._actions = self._DENYING

    def _on_first_body(self, message: Message) -> None:
        assert self._denial is not None
        status, headers = self._denial
        body, more = take_body(message)
        self._stream.send_response(status, list(headers), body, more)
        self._note_rejection(status)
        self._after_body(more)

    def _on_body(self, message: Message) -> None:
        body, more = take_body(message)
        self._stream.send_data(body, more)
        self._after_body(more)

    def _after_body(self, more: bool) -> None:
        if not more:
            self._end_denial()
        elif self._actions is not self._DISCONNECTED:
            self._actions = self._DENIED
            self._is_writing_paused = not self._stream.is_writable

    def _on_late_close(self, message: Message) -> None:
        """Do nothing: consumers close in their disconnect handlers too."""

    _CONNECTING: ClassVar[Actions] = {
        "websocket.accept": _on_accept,
        "websocket.close": _on_refuse,
        "websocket.http.response.start": _on_denial_start,
    }
    _DENYING: ClassVar[Actions] = {"websocket.http.response.body": _on_first_body}
    _DENIED: ClassVar[Actions] = {"websocket.http.response.body": _on_body}
    _OPEN: ClassVar[Actions] = {
        "websocket.send": _on_send,
        "websocket.close": _on_close,
    }
    _CLOSED: ClassVar[Actions] = {"websocket.close": _on_late_close}
    # Equal to _CLOSED in what it allows; told apart by identity.
    _DISCONNECTED: ClassVar[Actions] = {"websocket.close": _on_late_close}

    def is_undecided(self) -> bool:
        return self._actions is self._CONNECTING or self._actions is self._DENYING

    def _has_ended(self) -> bool:
        return self._actions is self._CLOSED or self._actions is self._DISCONNECTED

    def _state_name(self) -> str:
        names = ("CONNECTING", "DENYING", "DENIED", "OPEN")
        current = [name for name in names if getattr(self, f"_{name}") is self._actions]
        return current[0] if current else "CLOSED"

    def _close(self, code: int, reason: str) -> None:
        self._connection.close(code, reason)
        self._actions = self._CLOSED

    def _refuse(self, status: int) -> None:
        self._disconnect(CLOSE_ABNORMAL, "")
        self._send_refusal(status)

    def _send_refusal(self, status: int) -> None:
        body = HTTPStatus(status).phrase.encode()
        self._stream.send_response(status, _ERROR_HEADERS, body, more=False)
        self._note_rejection(status)

    def _end_denial(self) -> None:
        if not self._has_ended():
            self._actions = self._CLOSED
            self._inbox.end(CLOSE_ABNORMAL, "")

    def _note_rejection(self, status: int) -> None:
        if self._entry is not None:
            self._entry.rejected(status)

    def _disconnect(self, code: int, reason: str) -> None:
        if self._has_ended():
            return
        self._actions = self._DISCONNECTED
        self._inbox.end(code, reason)
        self.resume_writing()
        self._calls.abandon(self)

    def _pause_reading(self) -> None:
        self._connection.pause_reading()

    def _resume_reading(self) -> None:
        self._connection.resume_reading()

    async def _writable(self) -> None:
        while self._is_writing_paused:
            await wait(self._writers)
