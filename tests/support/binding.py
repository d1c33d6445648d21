"""Listening sockets as a configuration asks for them."""

from __future__ import annotations

from djserve.conf.schema import ServerConfig
from djserve.net.binding import BoundSocket, bind_all


def bind(config: ServerConfig) -> list[BoundSocket]:
    """Bind every address of ``config``; the caller closes the sockets."""
    tls = config.tls.certfile is not None
    return bind_all(config.bind, config.redirect, config.unix_sockets, tls=tls)
