"""What may be at a path that a setting names, and is no file to read or write."""

from __future__ import annotations

import os
import socket
from pathlib import Path

KINDS = {
    "FIFO": "it is a FIFO",
    "socket": "it is a socket",
    "device": "it is a device",
    "directory": "Is a directory",
}
"""Each kind, and what an error says of it."""


def make_odd_file(folder: Path, kind: str) -> Path:
    """Return the path of something of a kind, which no process has the other end of."""
    path = folder / "odd"
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.bind(str(path))
    elif kind == "device":
        # A read of it has no end.
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path
