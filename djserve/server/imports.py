"""WebSocket, imported beside a server that serves already.

Autobahn takes a fifth of a second of CPU time and 18 MiB. Imported before the server
listens it would delay every start; imported at the first WebSocket it would hold up all
connections, so a thread does it, between the loop's turns.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from typing import TYPE_CHECKING

from djserve.asgi.application import takes_websockets
from djserve.system import CAN_FORK

if TYPE_CHECKING:
    from djserve.asgi.types import Application

_NEEDED = "djserve.protocols.websocket.handshake"


def import_websocket_beside(application: Application) -> threading.Thread | None:
    """Import WebSocket in a thread; None if it is there or will not be needed."""
    if _NEEDED in sys.modules or not takes_websockets(application):
        return None
    thread = threading.Thread(target=_import, name="djserve-import", daemon=True)
    thread.start()
    # In a child that was forked now, its import locks would stay locked for good.
    if CAN_FORK:
        os.register_at_fork(before=thread.join)
    return thread


def _import() -> None:
    # Whatever is wrong is logged with the first WebSocket, which needs it.
    with contextlib.suppress(Exception):
        importlib.import_module(_NEEDED)
