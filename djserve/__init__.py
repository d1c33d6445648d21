"""djserve serves Django and any other ASGI application over HTTP and WebSocket."""

from __future__ import annotations

__version__ = "0.1.0"
