"""One WebTransport session as an ASGI conversation: the scope type ``webtransport``.

ASGI has no such type yet; the messages are described in docs/guides/webtransport.md.
"""

# What waits for the application
#
# A peer could send a megabyte in pieces of one byte. The bytes of a stream are joined
# until the application takes them, and a stream has one place in the queue, however
# much of it has come. Credit is given when the application takes the bytes, so QUIC's
# windows bound them. They do not bound streams that are over before the application has
# seen them: with QUEUE_LIMIT waiting, new ones are refused, and what was reset before
# it was seen leaves the queue without a word. Datagrams may be lost by their nature, so
# beyond DATAGRAM_LIMIT they are.
#
# An application names the streams that it opens itself, by any str: their numbers are
# QUIC's, and waiting for one would be a message back. Streams of the peer have numbers.

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from djserve.asgi.handshake import HandshakeExchange
from djserve.asgi.inbox import wait, wake
from djserve.asgi.websocket_messages import take_type, wrong_type
from djserve.errors import (
    ApplicationError,
    ClientDisconnected,
    SendAfterClose,
    UnexpectedMessage,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from djserve.asgi.application import ApplicationCalls
    from djserve.asgi.types import FinishRequest, Message, Scope
    from djserve.interfaces import RequestHead, SessionStream, WebTransport

    Actions = dict[str, Callable[["WebTransportExchange", Message], int | None]]

QUEUE_LIMIT = 1024
"""Messages that may wait before the peer can open no more streams."""

DATAGRAM_LIMIT = 256
"""Datagrams that wait for the application; those that come beyond are lost."""

_Name = int | str


class _Incoming:
    """What has come on one stream and was not taken yet."""

    __slots__ = ("data", "is_last", "is_queued", "was_taken")

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_last = False
        self.is_queued = False
        self.was_taken = False


class WebTransportExchange(HandshakeExchange):
    """Carry one session to the application (Exchange, WebTransportObserver).

    What the application may send is a table for each state, as for WebSocket.
    ``connect_timeout`` is in seconds.
    """

    __slots__ = (
        "_datagrams",
        "_finish",
        "_ids",
        "_incoming",
        "_names",
        "_queue",
        "_readers",
        "_session",
        "_size",
        "_started",
        "_writers",
    )

    _stream: SessionStream
    _session: WebTransport  # set by accept

    def __init__(
        self,
        scope: Scope,
        head: RequestHead,
        stream: SessionStream,
        calls: ApplicationCalls,
        connect_timeout: float,
        finish: FinishRequest | None = None,
    ) -> None:
        super().__init__(scope, head, stream, calls, connect_timeout)
        self._finish = finish
        self._started = time.perf_counter()
        # Whole messages, and the names of streams of which something has come.
        self._queue: deque[dict[str, Any] | _Name] = deque()
        self._queue.append({"type": "webtransport.connect"})
        self._incoming: dict[_Name, _Incoming] = {}
        self._datagrams = 0
        self._size = 0
        self._names: dict[int, str] = {}
        self._ids: dict[str, int] = {}
        self._readers: list[asyncio.Future[None]] = []
        self._writers: list[asyncio.Future[None]] = []

    @property
    def held_size(self) -> int:
        """Bytes that wait for the application."""
        return self._size

    # Upward, before the session is open: the stream calls these (interfaces.Exchange).

    def eof_received(self) -> None:
        """The client has given the session up before it was open."""
        self._stream.abort()
        self.connection_lost(None)

    def pause_writing(self) -> None:
        """Do nothing: a refusal is short."""

    def resume_writing(self) -> None:
        """Do nothing likewise."""

    # Upward, after it: the session calls these (interfaces.WebTransportObserver).

    @property
    def takes_streams(self) -> bool:
        return len(self._queue) < QUEUE_LIMIT

    def stream_received(self, stream_id: int, data: bytes, is_last: bool) -> None:
        name = self._names.get(stream_id, stream_id)
        incoming = self._incoming.get(name)
        if incoming is None:
            incoming = self._incoming[name] = _Incoming()
        incoming.data += data
        incoming.is_last = is_last
        self._size += len(data)
        if not incoming.is_queued:
            incoming.is_queued = True
            self._put(name)

    def stream_reset(self, stream_id: int, code: int) -> None:
        name = self._names.get(stream_id, stream_id)
        incoming = self._incoming.pop(name, None)
        if incoming is not None:
            # As far as the application is concerned they never came.
            self._size -= len(incoming.data)
            if incoming.is_queued:
                self._queue.remove(name)
            if not incoming.was_taken and name is stream_id:
                # The application cannot end our side of what it has never seen.
                self._session.reset_stream(stream_id, code)
                self._session.consumed(stream_id, 0, True)
                return
        self._put({"type": "webtransport.stream.reset", "stream": name, "code": code})

    def stream_stopped(self, stream_id: int, code: int) -> None:
        name = self._names.get(stream_id, stream_id)
        self._put({"type": "webtransport.stream.stop", "stream": name, "code": code})
        wake(self._writers)

    def stream_writable(self, stream_id: int) -> None:
        wake(self._writers)

    def stream_ended(self, stream_id: int) -> None:
        """Let the application use a name again."""
        name = self._names.pop(stream_id, None)
        if name is not None:
            del self._ids[name]

    def datagram_received(self, data: bytes) -> None:
        if self._datagrams < DATAGRAM_LIMIT:
            self._datagrams += 1
            self._size += len(data)
            self._put({"type": "webtransport.datagram.receive", "data": data})

    def closed(self, code: int | None, reason: str) -> None:
        if self._has_ended():
            return
        if self._actions is self._OPEN:
            self._record(200)
            # The connection outlives the session, and its window is one for all. The
            # calls that outlive it are bounded by HTTP2_CALL_LIMIT.
            for name, incoming in self._incoming.items():
                self._session.consumed(self._number(name), len(incoming.data), False)
        self._actions = self._DISCONNECTED
        self._put({"type": "webtransport.disconnect", "code": code, "reason": reason})
        wake(self._writers)
        self._calls.abandon(self)

    # The application calls these two.

    async def receive(self) -> Message:
        """Return the next message: first ``connect``, last ``disconnect``.

        Raises ClientDisconnected after that.
        """
        while True:
            while not self._queue:
                if self._has_ended():
                    raise ClientDisconnected
                await wait(self._readers)
            item = self._queue.popleft()
            message = item if isinstance(item, dict) else self._take_stream(item)
            if message is not None:
                self._note_taken(message)
                return message

    async def send(self, message: Message) -> None:
        """Take one message from the application.

        Returns once the stream that it was for takes more. Raises ClientDisconnected
        (an OSError) after a disconnect, ApplicationError for what the contract does not
        allow.
        """
        message_type = take_type(message)
        action = self._actions.get(message_type)
        if action is None:
            if self._actions is self._DISCONNECTED:
                raise ClientDisconnected
            if self._actions is self._CLOSED:
                raise SendAfterClose(message_type, "CLOSED")
            raise UnexpectedMessage(message_type, self._state_name())
        stream_id = action(self, message)
        if stream_id is None:
            return
        while self._actions is self._OPEN and not self._session.is_writable(stream_id):
            await wait(self._writers)

    # Messages: one method each, by state in the tables below.

    def _on_accept(self, message: Message) -> None:
        headers = [(bytes(name), bytes(value)) for name, value in _headers(message)]
        self._session = self._stream.open_session(headers, self)
        self._actions = self._OPEN

    def _on_refuse(self, message: Message) -> None:
        self._refuse(403)
        self._actions = self._CLOSED

    def _on_close(self, message: Message) -> None:
        with _errors_of(message):
            self._close(_take_code(message), _take_text(message, "reason"))

    def _on_stream_send(self, message: Message) -> int:
        stream_id = self._find_stream(message, is_new=True)
        data = _take_bytes(message)
        more = bool(message.get("more_data", True))
        self._session.send(stream_id, data, not more)
        return stream_id

    def _on_stream_reset(self, message: Message) -> None:
        stream_id = self._find_stream(message)
        with _errors_of(message):
            self._session.reset_stream(stream_id, _take_code(message))

    def _on_stream_stop(self, message: Message) -> None:
        stream_id = self._find_stream(message)
        with _errors_of(message):
            self._session.stop_stream(stream_id, _take_code(message))

    def _on_datagram(self, message: Message) -> None:
        self._session.send_datagram(_take_bytes(message))

    def _on_late_close(self, message: Message) -> None:
        """Do nothing: consumers close in their disconnect handlers too."""

    _CONNECTING: ClassVar[Actions] = {
        "webtransport.accept": _on_accept,
        "webtransport.close": _on_refuse,
    }
    _OPEN: ClassVar[Actions] = {
        "webtransport.stream.send": _on_stream_send,
        "webtransport.stream.reset": _on_stream_reset,
        "webtransport.stream.stop": _on_stream_stop,
        "webtransport.datagram.send": _on_datagram,
        "webtransport.close": _on_close,
    }
    _CLOSED: ClassVar[Actions] = {"webtransport.close": _on_late_close}
    # Equal to _CLOSED in what it allows; told apart by identity.
    _DISCONNECTED: ClassVar[Actions] = {"webtransport.close": _on_late_close}

    # Codes of applications: none of them has a meaning for the protocol.
    _CODE_AT_END = 0
    _CODE_AT_CANCEL = 0

    # Private.

    def _state_name(self) -> str:
        return "CONNECTING" if self._actions is self._CONNECTING else "OPEN"

    def _put(self, item: dict[str, Any] | _Name) -> None:
        self._queue.append(item)
        wake(self._readers)

    def _take_stream(self, name: _Name) -> Message | None:
        """Return all that has come on a stream; None if it was reset since."""
        incoming = self._incoming.get(name)
        if incoming is None or not incoming.is_queued:
            return None
        stream_id = self._number(name)
        data, incoming.data = bytes(incoming.data), bytearray()
        incoming.is_queued = False
        incoming.was_taken = True
        if incoming.is_last:
            del self._incoming[name]
        self._size -= len(data)
        if not self._has_ended():
            self._session.consumed(stream_id, len(data), incoming.is_last)
        return {
            "type": "webtransport.stream.receive",
            "stream": name,
            "data": data,
            "more_data": not incoming.is_last,
            "unidirectional": stream_id % 4 >= 2,
        }

    def _note_taken(self, message: Message) -> None:
        if message["type"] == "webtransport.datagram.receive":
            self._datagrams -= 1
            self._size -= len(message["data"])
        elif message["type"] == "webtransport.stream.reset" and not self._has_ended():
            self._session.consumed(self._number(message["stream"]), 0, True)

    def _number(self, name: _Name) -> int:
        return self._ids[name] if isinstance(name, str) else name

    def _find_stream(self, message: Message, *, is_new: bool = False) -> int:
        """Return a stream's number; a name that is new opens one, if it may."""
        name = message.get("stream")
        if type(name) is int:
            return name
        if not isinstance(name, str):
            raise wrong_type(message, "stream", "int or str", name)
        stream_id = self._ids.get(name)
        if stream_id is None:
            if not is_new:
                raise ApplicationError(f"{message['type']}: no stream {name!r:.100}")
            is_unidirectional = bool(message.get("unidirectional", False))
            stream_id = self._session.open_stream(is_unidirectional)
            self._ids[name] = stream_id
            self._names[stream_id] = name
        return stream_id

    def _close(self, code: int, reason: str) -> None:
        # The session calls ``closed`` for this end too: the application gets its
        # ``disconnect`` as after any other.
        self._session.close(code, reason)
        self._actions = self._CLOSED

    def _give_up(self) -> None:
        self.closed(None, "")

    def _note_refusal(self, status: int) -> None:
        self._record(status)

    def _record(self, status: int) -> None:
        finish, self._finish = self._finish, None
        if finish is not None:
            finish(self.head, self.scope, self._started, status, 0)


@contextmanager
def _errors_of(message: Message) -> Iterator[None]:
    """Turn a ValueError for what a message has into an ApplicationError."""
    try:
        yield
    except ValueError as error:
        raise ApplicationError(f"{message['type']}: {error}") from error


def _headers(message: Message) -> Any:
    return message.get("headers") or ()


def _take_code(message: Message) -> int:
    code = message.get("code", 0)
    if type(code) is not int:
        raise wrong_type(message, "code", "int", code)
    return code


def _take_text(message: Message, key: str) -> str:
    text = message.get(key)
    if text is not None and not isinstance(text, str):
        raise wrong_type(message, key, "str", text)
    return text or ""


def _take_bytes(message: Message) -> bytes:
    data = message.get("data", b"")
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    raise wrong_type(message, "data", "bytes", data)
