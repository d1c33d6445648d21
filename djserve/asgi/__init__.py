"""Requests to application messages and back: the ASGI side of the server."""

from __future__ import annotations
