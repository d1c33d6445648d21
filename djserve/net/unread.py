"""What a peer has sent and the loop has not read yet."""

from __future__ import annotations

import select
from typing import Any


def has_input(transport: Any) -> bool:
    """Return whether the kernel holds bytes for a connection, or its peer's end.

    The loop reads them in its next turn. False where that cannot be seen: transports
    that are not the loop's own, and systems without poll().
    """
    get_extra_info = getattr(transport, "get_extra_info", None)
    sock = None if get_extra_info is None else get_extra_info("socket")
    if sock is None or sock.fileno() < 0 or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))
