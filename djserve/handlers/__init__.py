"""The fast request path for Django: its ASGI handler without the thread hops."""

from __future__ import annotations

from djserve.handlers.channels import parallel_consumers, replace_handler
from djserve.handlers.handler import ASGIHandler, get_asgi_application
from djserve.handlers.runtime import configure, shared_pool

__all__ = [
    "ASGIHandler",
    "configure",
    "get_asgi_application",
    "parallel_consumers",
    "replace_handler",
    "shared_pool",
]
