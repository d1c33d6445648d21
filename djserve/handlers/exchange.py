"""What belongs to one request on its way through a lane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol

from django.http import HttpRequest, HttpResponseBase

from djserve.conf.schema import ServerConfig
from djserve.handlers.disconnect import Disconnect
from djserve.handlers.routing import Route
from djserve.handlers.sending import start_message
from djserve.handlers.streaming import send_async_stream, send_sync_stream
from djserve.handlers.threads.hops import Hops
from djserve.handlers.threads.mailbox import Mailbox
from djserve.handlers.threads.pool import ThreadPool

if TYPE_CHECKING:
    from djserve.asgi.types import Message, Scope, Send


class DjangoHandler(Protocol):
    """What the lanes call on the handler that has chosen them."""

    chunk_size: int
    found: tuple[Scope, Route] | None
    """The route of the request that begins now, if it has been looked up already."""

    @property
    def pool(self) -> ThreadPool:
        """The threads that run the synchronous code of requests."""

    @property
    def config(self) -> ServerConfig:
        """The limits that apply."""

    def is_untouched(self) -> bool:
        """Return whether no method has been replaced."""

    def is_overloaded(self) -> bool:
        """Return whether too many requests wait for a thread."""

    def current_mailbox(self) -> Mailbox:
        """Return what the running loop and the threads hand each other things by."""

    def create_request(
        self, scope: Any, body_file: IO[bytes]
    ) -> tuple[HttpRequest | None, HttpResponseBase | None]:
        """Return a request and None, or None and the response that refuses it."""

    def get_response(self, request: HttpRequest) -> HttpResponseBase:
        """Return the response for a request; called in a thread."""

    async def run_get_response(self, request: HttpRequest) -> HttpResponseBase:
        """Return the response for a request; called on the loop."""

    def adopt_response(self, response: HttpResponseBase) -> None:
        """Give a response of the synchronous lane what Django gives each response."""


@dataclass(slots=True, eq=False)
class RequestContext:
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
