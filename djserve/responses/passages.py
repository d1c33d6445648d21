"""The settings as passages: which stand between an exchange and its stream, if any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.files.folders import read_internal

if TYPE_CHECKING:
    import asyncio

    from djserve.asgi.types import FinishRequest, Scope
    from djserve.conf.schema import ServerConfig
    from djserve.interfaces import RequestHead, Stream
    from djserve.responses.passage import Passage
    from djserve.responses.private_files import PrivateFiles


class Passages:
    """Make what stands between each request's exchange and stream."""

    def __init__(self, private: PrivateFiles) -> None:
        self._private = private

    def check_request(self, head: RequestHead) -> None:
        """Raise ProtocolError for a request that no client may make."""
        self._private.check_request(head.raw_path)

    def open(
        self,
        head: RequestHead,
        scope: Scope,
        stream: Stream,
        log: FinishRequest | None,
    ) -> Passage:
        """Return the passage of one request, which reports its end to ``log``."""
        from djserve.responses.private_files import PrivateResponse

        return PrivateResponse(self._private, head, scope, stream, log)


def open_passages(
    config: ServerConfig, loop: asyncio.AbstractEventLoop
) -> Passages | None:
    """Return what the settings ask for; None if responses go out as they are."""
    folders = read_internal(config.files)
    if not folders:
        return None
    from djserve.responses.private_files import PrivateFiles

    return Passages(PrivateFiles(folders, loop))
