"""Close a transport that the loop may have begun to close by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djserve.interfaces import Transport


def close_transport(transport: Transport) -> None:
    """Close a transport after what is buffered, unless it is closing already.

    At a second call asyncio's with TLS drops its state, and fails at each question and
    at ``abort`` from then on (https://github.com/python/cpython/pull/98540). Our first
    is a second one if the peer has ended its side. Transports that are not the loop's
    own may be closed again.
    """
    is_closing = getattr(transport, "is_closing", None)
    if not (callable(is_closing) and is_closing()):
        transport.close()
