"""Channels' consumers: told that their client has gone before anything of theirs fails.

A consumer cleans up in ``disconnect()``, which Channels calls for the disconnect
message alone. An exception out of ``send`` would end the consumer before it has been
handed that message, and its groups would keep it. Channels was written for a server
that drops what comes too late, and so do we, for its consumers alone: any other
application learns of the disconnect by the OSError of the specification. So does a
consumer that does nothing but send: after a while, or it would never end.
"""

from __future__ import annotations

import asyncio
import sys
from functools import wraps
from typing import TYPE_CHECKING, Any

from djserve.asgi.outcomes import is_disconnect
from djserve.errors import ClientDisconnected, SendAfterClose
from djserve.interfaces import CLOSE_ABNORMAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djserve.asgi.types import Message, Receive, Scope, Send

MODULE = "channels.consumer"
HTTP_MODULE = "channels.generic.http"
EXCEPTIONS_MODULE = "channels.exceptions"
_DISCONNECTS = ("websocket.disconnect", "http.disconnect", "webtransport.disconnect")

DROPPED_MESSAGES = 1000
DROPPING_SECONDS = 10.0
"""What a consumer may send, and for how long, before it has to be told by an error."""


def attend_consumers() -> None:
    """Have the consumers of this process learn of a disconnect by its message first.

    Channels is not imported for it. To be called again if a consumer may have been
    imported since; it costs a look at each class of consumers.
    """
    consumer: Any = getattr(sys.modules.get(MODULE), "AsyncConsumer", None)
    if consumer is not None:
        for kind in _lineage(consumer):
            if "__call__" in vars(kind) and "_djserve_attended" not in vars(kind):
                kind._djserve_attended = True
                kind.__call__ = _attended(kind.__call__)


def _lineage(kind: Any) -> Iterator[Any]:
    """Return a class and all that inherit from it."""
    yield kind
    for heir in kind.__subclasses__():
        yield from _lineage(heir)


def _attended(call: Any) -> Any:
    @wraps(call)
    async def __call__(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        if _is_attended(self):
            # The call of a class that inherits comes here by super().
            await call(self, scope, receive, send)
            return
        parting = _Parting(self, send)
        # On the instance: Channels asks for it there, whoever has overridden it.
        self.dispatch = parting.dispatch
        try:
            await call(self, scope, receive, parting.send)
        except Exception as error:
            if not (parting.was_told_early and is_disconnect(error)):
                raise
            await parting.part(await _last_message(receive, scope["type"]))
        finally:
            parting.has_ended = True
            # Leaves no cycle to the garbage collector.
            vars(self).pop("dispatch", None)

    return __call__


def _is_attended(consumer: Any) -> bool:
    dispatch = vars(consumer).get("dispatch")
    return isinstance(getattr(dispatch, "__self__", None), _Parting)


async def _last_message(receive: Receive, scope_type: str) -> Message:
    """Return the disconnect, which Channels may have received already and dropped."""
    try:
        while True:
            message = await receive()
            if message["type"] in _DISCONNECTS:
                return message
    except ClientDisconnected:
        code = None if scope_type == "webtransport" else CLOSE_ABNORMAL
        return {"type": f"{scope_type}.disconnect", "code": code, "reason": ""}


class _Parting:
    """One consumer's ``send`` and ``dispatch``, and whether ``send`` may fail yet.

    Only djserve's own exceptions are dropped: under another server nothing changes.
    """

    __slots__ = (
        "_cleans_up",
        "_dispatch",
        "_dropped",
        "_dropping_since",
        "_has_gone",
        "_may_fail",
        "_send",
        "has_ended",
        "was_told_early",
    )

    def __init__(self, consumer: Any, send: Send) -> None:
        self._dispatch = consumer.dispatch
        self._send = send
        self._cleans_up = _cleans_up_by_itself(consumer)
        self._may_fail = False
        self._dropped = 0
        self._dropping_since = 0.0
        self._has_gone = False
        self.was_told_early = False
        """Whether an error told the consumer before it was handed the disconnect."""
        self.has_ended = False

    def dispatch(self, message: Message) -> Any:
        """Hand a message on to the consumer."""
        kind = message.get("type")
        if kind in _DISCONNECTS:
            self._has_gone = True
            self.was_told_early = False
            self._dropped = 0
            self._may_fail = False
        elif kind == "http.request" and self._cleans_up and not self._has_gone:
            self._may_fail = True
        return self._dispatch(message)

    async def part(self, message: Message) -> None:
        """Hand the disconnect to a consumer that Channels has ended."""
        stop: Any = getattr(sys.modules.get(EXCEPTIONS_MODULE), "StopConsumer", ())
        try:
            await self.dispatch(message)
        except stop:
            pass

    async def send(self, message: Message) -> None:
        """Send a message of the consumer, or drop it if it comes too late."""
        try:
            await self._send(message)
        except (ClientDisconnected, SendAfterClose):
            if self._may_fail or self.has_ended:
                raise
            if self._is_endless():
                self.was_told_early = not self._has_gone
                raise
            # A task that does nothing but send would hold the loop, and the disconnect
            # would never be handed to the consumer.
            await asyncio.sleep(0)

    def _is_endless(self) -> bool:
        """Count a message that is dropped; whether there were too many."""
        now = asyncio.get_running_loop().time()
        if not self._dropped:
            self._dropping_since = now
        self._dropped += 1
        return (
            self._dropped > DROPPED_MESSAGES
            or now - self._dropping_since > DROPPING_SECONDS
        )


def _cleans_up_by_itself(consumer: Any) -> bool:
    """Whether an exception while it answers a request ends in ``disconnect()`` anyway.

    ``http_request`` of Channels does that, and waits for the whole answer: an endless
    stream of events would never be handed the disconnect, and never end.
    """
    known = getattr(sys.modules.get(HTTP_MODULE), "AsyncHttpConsumer", None)
    mine = getattr(type(consumer), "http_request", None)
    return known is not None and mine is known.http_request
