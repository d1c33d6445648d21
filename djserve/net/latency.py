"""How much may wait below a protocol that shares its connection among many."""

from __future__ import annotations

import socket
from typing import Any

from djserve.net.sockets import set_option

# Bytes that the kernel takes ahead of what it can send. Without a limit these are
# several MiB, and each urgent byte waits until they are through. Linux and macOS.
UNSENT_LIMIT = 128 * 1024
_UNSENT_OPTION: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)

# Bytes that wait in the transport; a loop's TLS transports take 512 KiB by default.
BUFFER_LIMIT = 64 * 1024


def shorten_queues(transport: Any) -> None:
    """Let little wait in a transport and its socket, so that order can be chosen late.

    Transports that are not the loop's own are left as they are (benchmark:
    http2_mixed_download).
    """
    get_extra_info = getattr(transport, "get_extra_info", None)
    sock = None if get_extra_info is None else get_extra_info("socket")
    if sock is None:
        return
    transport.set_write_buffer_limits(BUFFER_LIMIT)
    if _UNSENT_OPTION is not None:
        set_option(sock, socket.IPPROTO_TCP, _UNSENT_OPTION, UNSENT_LIMIT)
