"""What belongs to one request on its way through a lane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from django.http import HttpResponseBase

from djserve.handlers.disconnect import Disconnect
from djserve.handlers.routing import Route
from djserve.handlers.sending import start_message
from djserve.handlers.streaming import send_async_stream, send_sync_stream
from djserve.handlers.threads.hops import Hops
from djserve.handlers.threads.mailbox import Mailbox

if TYPE_CHECKING:
    from djserve.asgi.types import Message, Scope, Send


@dataclass(slots=True, eq=False)
class Exchange:
    """A request's ASGI connection, its content, and its way into a thread."""

    scope: Scope
    send: Send
    body: IO[bytes]
    route: Route | None
    hops: Hops
    mailbox: Mailbox
    disconnect: Disconnect
    chunk_size: int

    async def stream(
        self, response: HttpResponseBase, file_message: Message | None
    ) -> None:
        """Send a streamed response, or the message that has the server do so."""
        await self.send(start_message(response))
        if file_message is not None:
            await self.send(file_message)
        elif getattr(response, "is_async", True):
            # It may last for hours, and wait for most of them.
            self.hops.relax()
            await send_async_stream(self.send, response, self.chunk_size)
        else:
            await send_sync_stream(
                self.send, response, self.chunk_size, self.hops, self.mailbox
            )
