"""Channels' consumers: told that their client has gone before anything of theirs fails.

A consumer cleans up in ``disconnect()``, which Channels calls for the disconnect
message alone. An exception out of ``send`` would end the consumer before it has been
handed that message, and its groups would keep it. Channels was written for a server
that drops what comes too late, and so do we, for its consumers alone: any other
application learns of the disconnect by the OSError of the specification.
"""

from __future__ import annotations

import sys
from functools import wraps
from typing import TYPE_CHECKING, Any

from djserve.errors import ClientDisconnected, SendAfterClose

if TYPE_CHECKING:
    from djserve.asgi.types import Message, Receive, Scope, Send

MODULE = "channels.consumer"
HTTP_MODULE = "channels.generic.http"
_DISCONNECTS = ("websocket.disconnect", "http.disconnect")


def attend_consumers() -> None:
    """Have the consumers of this process learn of a disconnect by its message first.

    Channels is not imported for it. To be called again where a consumer may have been
    imported since; it costs a look-up.
    """
    module = sys.modules.get(MODULE)
    consumer: Any = getattr(module, "AsyncConsumer", None)
    if consumer is not None and not hasattr(consumer, "_djserve_attended"):
        consumer._djserve_attended = True
        consumer.__call__ = _attended(consumer.__call__)


def _attended(call: Any) -> Any:
    @wraps(call)
    async def __call__(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        parting = _Parting(self, send)
        # On the instance: Channels asks for it there, whoever has overridden it.
        self.dispatch = parting.dispatch
        try:
            await call(self, scope, receive, parting.send)
        finally:
            # Leaves no cycle to the garbage collector.
            vars(self).pop("dispatch", None)

    return __call__


class _Parting:
    """One consumer's ``send`` and ``dispatch``, and whether ``send`` may fail yet.

    Only djserve's own exceptions are dropped: under another server nothing changes.
    """

    __slots__ = ("_cleans_up", "_dispatch", "_has_gone", "_may_fail", "_send")

    def __init__(self, consumer: Any, send: Send) -> None:
        self._dispatch = consumer.dispatch
        self._send = send
        self._cleans_up = _cleans_up_by_itself(consumer)
        self._has_gone = False
        self._may_fail = False

    def dispatch(self, message: Message) -> Any:
        """Hand a message on to the consumer."""
        if not self._has_gone:
            kind = message.get("type")
            self._has_gone = kind in _DISCONNECTS
            self._may_fail = self._has_gone or (
                kind == "http.request" and self._cleans_up
            )
        return self._dispatch(message)

    async def send(self, message: Message) -> None:
        """Send a message of the consumer, or drop it where it comes too late."""
        try:
            await self._send(message)
        except (ClientDisconnected, SendAfterClose):
            if self._may_fail:
                raise


def _cleans_up_by_itself(consumer: Any) -> bool:
    """Whether an exception while it answers a request ends in ``disconnect()`` anyway.

    ``http_request`` of Channels does that, and waits for the whole answer: an endless
    stream of events would never be handed the disconnect, and never end.
    """
    known = getattr(sys.modules.get(HTTP_MODULE), "AsyncHttpConsumer", None)
    mine = getattr(type(consumer), "http_request", None)
    return known is not None and mine is known.http_request
