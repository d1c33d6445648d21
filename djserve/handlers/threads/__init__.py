"""Worker threads behind an event loop: a library that knows neither Django nor ASGI."""

from __future__ import annotations
