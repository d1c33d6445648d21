"""djserve serves Django and any other ASGI application over HTTP and WebSocket."""

from __future__ import annotations

from djserve.conf.process import is_worker

__version__ = "0.1.0"
__all__ = ["is_worker"]
