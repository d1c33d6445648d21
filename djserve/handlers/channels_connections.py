"""Channels' look at the database connections before each message, without its hop.

Before it calls a handler, a consumer sends ``close_old_connections`` to the thread of
its synchronous code, although most handlers touch no database. Under a lease that is
put off until a call goes to a thread, and then done in that thread, before the call.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from djserve.handlers.cursors import close_unused_connections
from djserve.handlers.threads.hops import current_lease

_NAME = "aclose_old_connections"
_MODULES = (
    "channels.db",
    "channels.consumer",
    "channels.generic.http",
    "channels.generic.websocket",
)

# Channels' own function; None until it is replaced, and for releases of Channels that
# have no such function, which make no such hop.
_with_hop: Any = None


async def aclose_old_connections() -> None:
    """Have connections that are broken or past their age closed before they are used.

    A hop for every message takes a third of its time (benchmark: channels_echo). It
    would even miss its aim: a lease that was idle may get another thread next time.
    A thread that no call goes to keeps its connections as it would under WSGI: they
    were looked at when it was last given back. Outside of a lease this is Channels' own
    function.
    """
    lease = current_lease()
    if lease is None:
        await _with_hop()
    else:
        lease.precede(close_unused_connections)


def defer_connection_checks() -> None:
    """Put the function above in the place of Channels' own, wherever that is known.

    Modules that import it from ``channels.db`` later get it from there. Without
    Channels, an extra of the package, there is nothing to do.
    """
    global _with_hop
    found = getattr(_import_channels_db(), _NAME, None)
    if found is not aclose_old_connections:
        _with_hop = found
    for name in _MODULES:
        module = sys.modules.get(name)
        if _with_hop is not None and getattr(module, _NAME, None) is _with_hop:
            setattr(module, _NAME, aclose_old_connections)


def _import_channels_db() -> ModuleType | None:
    try:
        import channels.db
    except ModuleNotFoundError as error:
        if error.name != "channels":
            raise
        return None
    module: ModuleType = channels.db
    return module
