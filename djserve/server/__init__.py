"""One process that serves: the composition root of protocols, ASGI and sockets."""

from __future__ import annotations
