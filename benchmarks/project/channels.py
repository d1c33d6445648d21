"""The project with a Channels consumer that returns each message."""

from __future__ import annotations

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application


class EchoConsumer(AsyncWebsocketConsumer):  # type: ignore[misc] # not annotated
    """Return every message."""

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None
    ) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)


application = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": EchoConsumer.as_asgi()}
)
