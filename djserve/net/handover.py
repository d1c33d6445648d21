"""Listening sockets that outlive a reload: the reloader's parent holds them open.

The process that serves ends with every change of a file. The sockets are bound by the
parent that starts it, and inherited: clients that come in between wait in the kernel's
queue, as they do behind a supervisor.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from djserve.errors import ListenError
from djserve.net.address import FDAddress, TCPAddress
from djserve.net.sockets import open_sockets
from djserve.system import CAN_FORK

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

VARIABLE = "DJSERVE_RELOADER_SOCKETS"


@contextmanager
def hold_sockets(address: tuple[str, int], backlog: int) -> Iterator[None]:
    """Bind an address for the processes that are started in the block.

    Nothing is held if it cannot be bound: the process that serves tries it again, and
    reports the reason. Nor is it on Windows, where that process is not always a child
    of this one (a virtual environment's python.exe stands between them).
    """
    if not CAN_FORK:
        yield
        return
    try:
        sockets = open_sockets(TCPAddress(*address), backlog=backlog)
    except (ListenError, OverflowError):
        yield
        return
    for sock in sockets:
        sock.set_inheritable(True)
    os.environ[VARIABLE] = json.dumps(
        {
            "parent": os.getpid(),
            "address": address,
            "descriptors": [sock.fileno() for sock in sockets],
        }
    )
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        for sock in sockets:
            sock.close()


def protect_sockets() -> None:
    """Keep what the parent holds from programs that the project starts.

    Called by the process that serves, before it runs more of the project's code: such a
    program may live on and would hold the port.
    """
    for number in _read_held()["descriptors"]:
        os.set_inheritable(number, False)


def inherit_sockets(address: tuple[str, int], backlog: int) -> list[socket.socket]:
    """Return the sockets that the parent holds for an address, else bind it.

    Raises ListenError.
    """
    held = _read_held()
    if held["address"] != [*address]:
        return open_sockets(TCPAddress(*address), backlog=backlog)
    return [
        sock
        for number in held["descriptors"]
        for sock in open_sockets(FDAddress(number), backlog=backlog)
    ]


def _read_held() -> dict[str, Any]:
    held: dict[str, Any] = json.loads(os.environ.get(VARIABLE, "{}"))
    # A program that the project starts inherits the variable, and not the sockets.
    if held.get("parent") != os.getppid():
        return {"address": None, "descriptors": []}
    return held
