"""The settings as filters: those between an exchange and its stream, if any."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from djserve.files.folders import read_internal

if TYPE_CHECKING:
    import asyncio

    from djserve.asgi.types import FinishRequest, Scope
    from djserve.conf.schema import CompressionConfig
    from djserve.conf.schema_files import FilesConfig
    from djserve.interfaces import RequestHead, Stream
    from djserve.responses.filter import ResponseFilter
    from djserve.responses.negotiation import Negotiation
    from djserve.responses.private_files import PrivateFiles

Ends: TypeAlias = "tuple[ResponseFilter, ResponseFilter]"
"""The filter at the stream, and the one at the exchange; they may be the same."""


class ResponseFilters:
    """Make what stands between each request's exchange and stream.

    A file that takes a response's place is sent as it is, so compression is on the
    application's side of that.
    """

    def __init__(
        self,
        private: PrivateFiles | None,
        negotiation: Negotiation | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._private = private
        self._negotiation = negotiation
        if negotiation is not None:
            from djserve.responses.compression import LoopShare

            self._share = LoopShare(loop)

    def check_request(self, head: RequestHead) -> None:
        """Raise ProtocolError for a request that no client may make."""
        if self._private is not None:
            self._private.check_request(head.raw_path)

    def open(
        self,
        head: RequestHead,
        scope: Scope,
        stream: Stream,
        log: FinishRequest | None,
    ) -> Ends:
        """Return the filters of one request, whose end is reported to ``log``."""
        if self._private is None:
            only = self._compress(head, stream, log)
            return only, only
        from djserve.responses.private_files import PrivateResponse

        outer = PrivateResponse(self._private, head, scope, stream, log)
        if self._negotiation is None:
            return outer, outer
        inner = self._compress(head, outer, outer.finish)
        return outer.connect(inner), inner

    def _compress(
        self, head: RequestHead, stream: Stream, log: FinishRequest | None
    ) -> ResponseFilter:
        from djserve.responses.compression import CompressedResponse

        assert self._negotiation is not None
        return CompressedResponse(self._negotiation, head, self._share, stream, log)


def open_filters(
    files: FilesConfig, compression: CompressionConfig, loop: asyncio.AbstractEventLoop
) -> ResponseFilters | None:
    """Return what the settings ask for; None if responses go out as they are."""
    private = negotiation = None
    folders = read_internal(files)
    if folders:
        from djserve.responses.private_files import PrivateFiles

        private = PrivateFiles(folders, loop)
    if compression.compression:
        negotiation = _open_negotiation(compression)
    if private is None and negotiation is None:
        return None
    return ResponseFilters(private, negotiation, loop)


def _open_negotiation(config: CompressionConfig) -> Negotiation:
    from djserve.responses.codecs import find_encoders
    from djserve.responses.negotiation import Negotiation

    return Negotiation(
        find_encoders(config.compression_codings),
        config.compression_types,
        config.compression_minimum_size,
    )


def describe_compression(config: CompressionConfig) -> list[str]:
    """Return lines for the start-up message: the codings, and those that lack."""
    if not config.compression:
        return []
    from djserve.responses.codecs import find_encoders

    found = [each.decode("ascii") for each in find_encoders(config.compression_codings)]
    missing = [each for each in config.compression_codings if each not in found]
    line = f"Responses are compressed: {', '.join(found) or 'by nothing'}"
    if missing:
        line += f" (for {' and '.join(missing)}: pip install 'djserve[compression]')"
    return [line]
