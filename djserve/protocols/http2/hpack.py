"""Header blocks (HPACK, RFC 7541), with what repeats kept ready.

Clients send, and servers answer with, much the same block again and again. A block that
does not change the dynamic table means the same until the table changes, so it is
decoded or encoded once (benchmark: http2_hello; h2's own way takes a third of a
request's time). A block that does change the table is never kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2.errors import ErrorCodes
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from djserve.packages import require
from djserve.protocols.http2.errors import HTTP2Error
from djserve.protocols.http2.request import Request, parse_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpack.struct import HeaderTuple

    from djserve.conf.schema import HTTPConfig
    from djserve.protocols.http2.response import Fields

require("hpack", HeaderTable, "_maxsize", "add", "maxsize", "resized")
require("hpack", HeaderTable, "STATIC_TABLE_MAPPING", "get_by_index", "search")
require("hpack", Encoder, "header_table", "table_size_changes")

# What one connection keeps, each way.
_KEPT_LIMIT = 64
_KEPT_SIZE_LIMIT = 1024

# RFC 7541 section 4.2: a peer may offer more; this bounds our own memory.
ENCODER_TABLE_LIMIT = 4096


class CountingTable(HeaderTable):
    """A header table that counts its changes."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        return self._maxsize

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.changes += 1
        HeaderTable.maxsize.__set__(self, newmax)  # type: ignore[attr-defined]


class BlockDecoder(Decoder):
    """Decode the header blocks of one connection, in their order."""

    def __init__(self, config: HTTPConfig) -> None:
        # A list beyond our limit is still decoded, to be answered with 431; far beyond
        # it is an attack (CVE-2016-6581), and the connection is lost with the context.
        super().__init__(max_header_list_size=2 * config.header_size_limit)
        self.header_table: CountingTable = CountingTable()
        self._config = config
        self._known: dict[bytes, Request] = {}
        self._known_at = 0

    def decode_request(self, block: bytes) -> Request:
        """Decode and check a request's fields.

        Raises HTTP2Error: with a code of the connection's if the block cannot be
        decoded, as a stream's (``stream_id`` -1) if what it says is malformed.
        """
        table = self.header_table
        if table.changes == self._known_at:
            request = self._known.get(block)
            if request is not None:
                return request
        before = table.changes
        fields = self.decode_fields(block)
        try:
            request = parse_request(fields, self._config)
        except HTTP2Error as error:
            error.stream_id = -1
            raise
        if table.changes == before and len(block) <= _KEPT_SIZE_LIMIT:
            if self._known_at != before or len(self._known) >= _KEPT_LIMIT:
                self._known.clear()
                self._known_at = before
            self._known[block] = request
        return request

    def decode_fields(self, block: bytes) -> Sequence[HeaderTuple]:
        """Decode any block. Raises HTTP2Error, for the connection."""
        try:
            return list(self.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise HTTP2Error(
                str(error), ErrorCodes.ENHANCE_YOUR_CALM, setting="HEADER_SIZE_LIMIT"
            ) from error
        except HPACKError as error:
            raise HTTP2Error(str(error), ErrorCodes.COMPRESSION_ERROR) from error


class BlockEncoder(Encoder):
    """Encode the header blocks of one connection, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.header_table: CountingTable = CountingTable()
        self._known: dict[Fields, tuple[bytes, bytes]] = {}
        self._known_at = 0

    @property
    def header_table_size(self) -> int:
        return self.header_table.maxsize

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        size = min(value, ENCODER_TABLE_LIMIT)
        if size != self.header_table.maxsize:
            self.header_table.maxsize = size
            # RFC 7541 section 4.2: the smallest since the last block, and the last.
            smallest = min([size, *self.table_size_changes])
            self.table_size_changes[:] = sorted({smallest, size})

    def encode_response(self, fields: Fields, date: bytes) -> bytes:
        """Encode a response's fields; ``date`` is added to those that want it."""
        table = self.header_table
        if table.changes == self._known_at:
            known = self._known.get(fields)
            if known is not None and known[0] is date:
                return known[1]
        before = table.changes
        pairs = fields.indexed
        if fields.wants_date and date:
            pairs = [*pairs, (b"date", date)]
        was_resized = table.resized
        block = self.encode(pairs) + fields.literal
        if table.changes == before and not was_resized and fields.is_kept:
            if self._known_at != before or len(self._known) >= _KEPT_LIMIT:
                self._known.clear()
                self._known_at = before
            self._known[fields] = (date, block)
        return block
