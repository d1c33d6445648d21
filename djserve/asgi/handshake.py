"""What a WebSocket and a WebTransport session have in common: how they begin and fail.

Both are requests at first, which the application accepts or refuses; the server
refuses for it if it fails, takes too long, or has to stop.
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
# DENYING and DENIED are WebSocket's alone.
#
# CLOSED and DISCONNECTED allow the same, a late ``close`` without effect. They differ
# in what they say of any other message: an application that has closed has made a
# mistake, while one that was disconnected cannot have known, and gets
# ClientDisconnected.
#
# An application that returns without a decision has failed (500); one that returns
# while it is OPEN closes normally.
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
from djserve.asgi.outcomes import refusal_status
from djserve.errors import ApplicationError
from djserve.instrumentation.limits import note_unavailable
from djserve.interfaces import CLOSE_INTERNAL_ERROR

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from djserve.asgi.application import ApplicationCalls
    from djserve.asgi.types import Message, Scope
    from djserve.interfaces import RequestHead, Stream

_ERROR_HEADERS = [(b"content-type", b"text/plain; charset=utf-8")]


class HandshakeExchange:
    """The base of both exchanges (interfaces.Exchange), which have the tables.

    ``connect_timeout`` is in seconds.
    """

    __slots__ = (
        "_actions",
        "_calls",
        "_connect_timeout",
        "_started_at",
        "_stream",
        "head",
        "scope",
        "waiting_time",
    )

    _CONNECTING: ClassVar[dict[str, Any]]
    _OPEN: ClassVar[dict[str, Any]]
    _CLOSED: ClassVar[dict[str, Any]]
    _DISCONNECTED: ClassVar[dict[str, Any]]

    # Codes for an application that has returned, and for one that was cancelled.
    _CODE_AT_END: ClassVar[int]
    _CODE_AT_CANCEL: ClassVar[int]

    def __init__(
        self,
        scope: Scope,
        head: RequestHead,
        stream: Stream,
        calls: ApplicationCalls,
        connect_timeout: float,
    ) -> None:
        self.scope = scope
        self.head = head
        self._stream = stream
        self._calls = calls
        self._connect_timeout = connect_timeout
        self._actions = self._CONNECTING
        self._started_at: float | None = None
        self.waiting_time: Callable[[], float] | None = None
        """Returns the seconds for which the server let the application wait."""

    @property
    def is_running(self) -> bool:
        """Whether the application call has begun and not ended."""
        return self._calls.is_running(self)

    def start(self) -> None:
        """Run the application."""
        attend_consumers()
        self._calls.start(self)

    # Upward, until the application has accepted (interfaces.Exchange).

    def data_received(self, data: bytes) -> None:
        """Refuse what comes before the acceptance (RFC 6455 section 4.1)."""
        self._stream.abort()
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone before it was accepted or refused."""
        if self.is_undecided():
            self._note_refusal(0)
        self._give_up()

    def tick(self, now: float) -> None:
        """Answer 503 if the application has not decided in time."""
        if self._started_at is None:
            self._started_at = now
            return
        elapsed = now - self._started_at
        if self.waiting_time is not None:
            elapsed -= self.waiting_time()
        if elapsed >= self._connect_timeout and self.is_undecided():
            note_unavailable(
                "WEBSOCKET_CONNECT_TIMEOUT",
                f"neither accepted nor refused in {self._connect_timeout:g} s",
                self.scope,
            )
            self._refuse(503)
            self._calls.cancel(self)

    def drain(self) -> None:
        """Refuse what is not accepted yet: the client finds another server at once."""
        if self.is_undecided():
            self._refuse(503)

    # The application's end.

    def application_finished(self) -> None:
        """End the conversation for an application that has returned."""
        if self._actions is self._OPEN:
            self._close(self._CODE_AT_END, "")
        elif not self._has_ended():
            error = ApplicationError("The application returned without a decision")
            log_fault(self.scope, error)
            self.application_failed(error)

    def application_failed(self, error: BaseException) -> None:
        """Answer 500, or close with 1011; abort what cannot be taken back."""
        is_cancelled = isinstance(error, asyncio.CancelledError)
        if self._actions is self._OPEN:
            code = self._CODE_AT_CANCEL if is_cancelled else CLOSE_INTERNAL_ERROR
            self._close(code, "")
        elif self.is_undecided():
            self._refuse(refusal_status(error))
        elif not self._has_ended():
            self._stream.abort()
            self._give_up()

    def is_undecided(self) -> bool:
        """Return whether the client can still be refused, with any status."""
        return self._actions is self._CONNECTING

    def _has_ended(self) -> bool:
        return self._actions is self._CLOSED or self._actions is self._DISCONNECTED

    def _refuse(self, status: int) -> None:
        """Refuse the client for the application, which may not know of it yet."""
        self._give_up()
        self._send_refusal(status)

    def _send_refusal(self, status: int) -> None:
        body = HTTPStatus(status).phrase.encode()
        self._stream.send_response(status, _ERROR_HEADERS, body, more=False)
        self._note_refusal(status)

    # A subclass has these.

    def receive(self) -> Coroutine[Any, Any, Message]:
        """Return the next message for the application."""
        raise NotImplementedError

    def send(self, message: Message) -> Coroutine[Any, Any, None]:
        """Take a message from the application."""
        raise NotImplementedError

    def _close(self, code: int, reason: str) -> None:
        """End what is open, by the application's wish."""
        raise NotImplementedError

    def _give_up(self) -> None:
        """Tell the application that its client has gone, unless it knows."""
        raise NotImplementedError

    def _note_refusal(self, status: int) -> None:
        """Record how the request was answered, 0 for a client that has gone."""
        raise NotImplementedError
