"""The site's WebSockets."""

from __future__ import annotations

from django.urls import path

from demo_project.chat.consumers import RoomConsumer
from demo_project.notifications.consumers import InboxConsumer
from demo_project.status.consumers import StatusConsumer

websocket_urlpatterns = [
    path("ws/rooms/<slug:slug>/", RoomConsumer.as_asgi()),
    path("ws/inbox/", InboxConsumer.as_asgi()),
    path("ws/status/", StatusConsumer.as_asgi()),
]
