"""Who is at the other end of a unix socket, as the kernel tells it."""

from __future__ import annotations

import os
import socket
import struct

_CREDENTIALS = struct.Struct("3i")
_ROOT = 0


def is_trusted(sock: socket.socket, owner: int) -> bool:
    """Return whether the peer runs as the folder's owner, as this user or as root.

    Systems that do not tell it have the folder's mode alone, which is enough unless the
    folder was moved away and replaced.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return False
    user: int = _CREDENTIALS.unpack(data)[1]
    return user in (owner, os.geteuid(), _ROOT)
