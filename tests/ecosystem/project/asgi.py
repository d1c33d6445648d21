"""The application: Django, consumers behind a session, and what the package adds."""
# ruff: noqa: E402 - what Django needs comes before what needs Django

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.ecosystem.project.settings")

from django.conf import settings

settings.PACKAGE.before_application()

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

django_application = get_asgi_application()

from tests.ecosystem.project import consumers

websockets = AuthMiddlewareStack(
    URLRouter(
        [
            *settings.PACKAGE.routes(),
            path("ws/sync/", consumers.SyncConsumer.as_asgi()),
            path("ws/async/", consumers.AsyncConsumer.as_asgi()),
        ]
    )
)
application = settings.PACKAGE.wrap(
    ProtocolTypeRouter({"http": django_application, "websocket": websockets})
)
