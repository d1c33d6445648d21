"""The ASGI application: one entry for each protocol.

HTTP goes to Django. A WebSocket is let in by its Origin, then given the session's
user, then routed to a consumer. "channel" carries background work and "lifespan" runs
the worker inside the server.
"""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")
# Sets the apps up, so it comes before whatever imports models.
http = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import (  # noqa: E402
    ChannelNameRouter,
    ProtocolTypeRouter,
    URLRouter,
)
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402

from demo_project.background.consumers import CHANNELS  # noqa: E402
from demo_project.background.lifespan import Lifespan  # noqa: E402
from demo_project.routing import websocket_urlpatterns  # noqa: E402

channel = ChannelNameRouter(CHANNELS)
websocket = AllowedHostsOriginValidator(
    AuthMiddlewareStack(URLRouter(websocket_urlpatterns))
)
application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": websocket,
        "channel": channel,
        "lifespan": Lifespan(channel),
    }
)
