"""A consumer of WebTransport sessions, in the shape of Channels' own (experimental)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from channels.consumer import AsyncConsumer
from channels.db import aclose_old_connections
from channels.exceptions import (
    AcceptConnection,
    DenyConnection,
    InvalidChannelLayerError,
    StopConsumer,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


class WebTransportConsumer(AsyncConsumer):  # type: ignore[misc]
    """One session: override the methods without a word of ASGI, await the others.

    The session joins ``groups`` of the channel layer while it lasts, and handles their
    events by methods named after their type, as Channels' consumers do. Streams that
    the client has opened have numbers; those that the consumer opens, by sending on
    them, have names of its choice.
    """

    groups: Iterable[str] = ()
    _joined: tuple[str, ...] = ()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Channels hands no disconnect on to a consumer that has failed, or that was
            # cancelled: its groups would go on sending to it for a day.
            await self._leave()

    # To override.

    async def connect(self) -> None:
        """Decide about a new session; accepts it by default."""
        await self.accept()

    async def receive_stream(
        self, stream: int | str, data: bytes, *, more: bool, unidirectional: bool
    ) -> None:
        """Take bytes of a stream; after those without ``more`` it has ended."""

    async def receive_datagram(self, data: bytes) -> None:
        """Take a datagram."""

    async def stream_reset(self, stream: int | str, code: int) -> None:
        """The client has broken its side of a stream off.

        Breaks ours off as well, on a stream that the client has opened.
        """
        if isinstance(stream, int):
            await self.reset_stream(stream, code)

    async def stream_stopped(self, stream: int | str, code: int) -> None:
        """The client takes no more of a stream."""

    async def disconnect(self, code: int | None) -> None:
        """The session has ended; None: the connection was lost."""

    # To await.

    async def accept(self, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Accept the session, with fields for the response."""
        await self.send({"type": "webtransport.accept", "headers": list(headers)})

    async def close(self, code: int = 0, reason: str = "") -> None:
        """End the session; before it is accepted, refuse it with 403.

        ``code`` has 32 bits and ``reason`` at most 1024 bytes.
        """
        await self.send({"type": "webtransport.close", "code": code, "reason": reason})

    async def send_stream(
        self,
        stream: int | str,
        data: bytes,
        *,
        more: bool = True,
        unidirectional: bool = False,
    ) -> None:
        """Send on a stream; the first bytes on a new name open it.

        Returns once the client can take more.
        """
        await self.send(
            {
                "type": "webtransport.stream.send",
                "stream": stream,
                "data": data,
                "more_data": more,
                "unidirectional": unidirectional,
            }
        )

    async def reset_stream(self, stream: int | str, code: int = 0) -> None:
        """Break our side of a stream off."""
        message = {"type": "webtransport.stream.reset", "stream": stream, "code": code}
        await self.send(message)

    async def stop_stream(self, stream: int | str, code: int = 0) -> None:
        """Ask the client to end its side of a stream."""
        message = {"type": "webtransport.stream.stop", "stream": stream, "code": code}
        await self.send(message)

    async def send_datagram(self, data: bytes) -> None:
        """Send at most 1100 bytes, which may get lost."""
        await self.send({"type": "webtransport.datagram.send", "data": data})

    # Called by Channels' dispatch, by the message's type.

    async def webtransport_connect(self, message: dict[str, Any]) -> None:
        for group in self.groups:
            await self._layer.group_add(group, self.channel_name)
            self._joined += (group,)
        try:
            await self.connect()
        except AcceptConnection:
            await self.accept()
        except DenyConnection:
            await self.close()

    async def webtransport_stream_receive(self, message: dict[str, Any]) -> None:
        await self.receive_stream(
            message["stream"],
            message["data"],
            more=message["more_data"],
            unidirectional=message["unidirectional"],
        )

    async def webtransport_stream_reset(self, message: dict[str, Any]) -> None:
        await self.stream_reset(message["stream"], message["code"])

    async def webtransport_stream_stop(self, message: dict[str, Any]) -> None:
        await self.stream_stopped(message["stream"], message["code"])

    async def webtransport_datagram_receive(self, message: dict[str, Any]) -> None:
        await self.receive_datagram(message["data"])

    async def webtransport_disconnect(self, message: dict[str, Any]) -> None:
        await self._leave()
        await self.disconnect(message["code"])
        await aclose_old_connections()
        raise StopConsumer

    async def _leave(self) -> None:
        joined, self._joined = self._joined, ()
        for group in joined:
            await self._layer.group_discard(group, self.channel_name)

    @property
    def _layer(self) -> Any:
        if not hasattr(self.channel_layer, "group_add"):
            raise InvalidChannelLayerError(
                "groups need a channel layer that has them: set CHANNEL_LAYERS"
            )
        return self.channel_layer
