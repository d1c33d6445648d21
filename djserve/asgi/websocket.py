"""One WebSocket as an ASGI conversation, from the handshake to the disconnect.

Before the application accepts it is an exchange on a request's stream, like HTTP's;
afterwards it observes the connection that the stream was upgraded to.
"""

# ``handshake`` describes the states. A denial's head is kept until its first body
# (DENYING): the status goes out with content, and until then a timeout or the
# application's failure can still answer with another status (``is_undecided``). From
# the first body on, only an abort is left.
#
# The application is told of its own ``close``, too: the connection calls ``closed``
# while ``_close`` is still under way, so the disconnect message is in the inbox before
# the state becomes CLOSED. From then on its call has APPLICATION_CLOSE_TIMEOUT to end.

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from djserve.asgi.handshake import HandshakeExchange
from djserve.asgi.http_messages import take_body
from djserve.asgi.inbox import Inbox, wait, wake
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
from djserve.interfaces import (
    CLOSE_ABNORMAL,
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

SENDS_IN_A_TURN = 256
"""Messages that an application sends before other connections have their turn."""

COMPRESSED_IN_A_TURN = 64 * 1024
"""Bytes of these that are compressed: a millisecond or two, up to a message more."""

_COMPRESSED_AS_A_SEND = COMPRESSED_IN_A_TURN // SENDS_IN_A_TURN


class WebSocketExchange(HandshakeExchange):
    """Carry one WebSocket to the application.

    What the application may send is a table for each state: CONNECTING until it has
    accepted or refused, DENYING and DENIED with the parts of a denial response, OPEN,
    CLOSED once it has closed or refused, DISCONNECTED once anyone else ended it.
    """

    __slots__ = (
        "_config",
        "_connection",
        "_denial",
        "_entry",
        "_handshake",
        "_inbox",
        "_is_writing_paused",
        "_unpaused",
        "_write_timeout",
        "_writers",
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
        super().__init__(scope, head, stream, calls, config.websocket_connect_timeout)
        self._handshake = handshake
        self._config = config
        self._write_timeout = write_timeout
        self._entry = entry
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

    @property
    def held_size(self) -> int:
        """Bytes of messages that wait for the application."""
        return self._inbox.size

    # Upward, before the upgrade: the stream calls these (interfaces.Exchange).

    def eof_received(self) -> None:
        """Do nothing: the request has no content."""

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
        self._unpaused += 1
        if self._unpaused >= SENDS_IN_A_TURN:
            self._unpaused = 0
            await asyncio.sleep(0)

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
            compressed = self._connection.send_binary(data)
        else:
            try:
                compressed = self._connection.send_text(data)
            except UnicodeEncodeError as error:
                raise ApplicationError(f"websocket.send: {error}") from error
        if compressed:
            self._unpaused += compressed // _COMPRESSED_AS_A_SEND

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
        self._note_refusal(status)
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

    _CODE_AT_END = CLOSE_NORMAL
    _CODE_AT_CANCEL = CLOSE_SERVICE_RESTART

    def is_undecided(self) -> bool:
        return self._actions is self._CONNECTING or self._actions is self._DENYING

    def _state_name(self) -> str:
        names = ("CONNECTING", "DENYING", "DENIED", "OPEN")
        current = [name for name in names if getattr(self, f"_{name}") is self._actions]
        return current[0] if current else "CLOSED"

    def _close(self, code: int, reason: str) -> None:
        self._connection.close(code, reason)
        self._actions = self._CLOSED

    def _give_up(self) -> None:
        self._disconnect(CLOSE_ABNORMAL, "")

    def _end_denial(self) -> None:
        if not self._has_ended():
            self._actions = self._CLOSED
            self._inbox.end(CLOSE_ABNORMAL, "")

    def _note_refusal(self, status: int) -> None:
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
