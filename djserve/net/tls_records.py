"""A TLS connection's input, of which OpenSSL gets one record at a time.

What costs OpenSSL most, for what it costs a peer, is a key update (RFC 8446 section
4.6.3): 27 bytes, 76 microseconds. OpenSSL works all of its input off before it returns,
sets no bound on such records and does not tell of them. But a record's header is in the
clear, and a record after which OpenSSL wants more was one without data.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# RFC 8446 section 5.1.
HEADER_SIZE = 5
CHANGE_CIPHER_SPEC = 20
_MAX_SIZE = HEADER_SIZE + 2**16 - 1

EMPTY_LIMIT = 32
"""Records without data that a peer may send; peers update keys every 2^24 records."""

DATA_PER_EMPTY = 16 * 1024


class TooManyEmptyRecords(ssl.SSLError):
    """A peer sends records without data; for an event loop it is a failure of TLS."""

    def __init__(self) -> None:
        super().__init__(1, "too many TLS records without application data")


class RecordGate:
    """What lies between an event loop's buffer and OpenSSL's own.

    The event loop writes to ``source`` what arrives, and OpenSSL reads ``target``. What
    is not needed yet stays in the source: uvloop reads on only while that has more.
    """

    __slots__ = (
        "_data_size",
        "_empty",
        "_has_ended",
        "_header",
        "_is_whole",
        "_missing",
        "_size",
        "_source",
        "_target",
        "kind",
    )

    def __init__(self, source: ssl.MemoryBIO, target: ssl.MemoryBIO) -> None:
        self._source = source
        self._target = target
        # As much of the next record's header as has come.
        self._header = b""
        # Bytes of the record that was let in last, and whether all were.
        self._missing = 0
        self._is_whole = False
        # More than the data in it, and in what OpenSSL has of it.
        self._size = _MAX_SIZE
        self.kind = 0
        """The record's type, by its header."""
        self._has_ended = False
        self._empty = 0
        self._data_size = 0

    def connect(
        self, read: Callable[..., Any], pending: Callable[[], int]
    ) -> Callable[..., Any]:
        """Return what reads as ``read`` does, OpenSSL's, having let in what it needs.

        ``pending`` tells how much OpenSSL has of a record that was read in part.

        It raises TooManyEmptyRecords, and what ``read`` raises. For a loop that keeps
        it, a read is one call of Python's more.
        """
        let_in, target = self.let_in, self._target

        def read_gated(len: int = 1024, buffer: Any = None) -> Any:
            has_more = True
            if not target.pending:
                has_more = let_in()
                if not (has_more or self._has_ended or pending()):
                    # So would OpenSSL, for ten times as much (benchmark:
                    # http1_tls_new): loops look for more before they close.
                    raise ssl.SSLWantReadError
            while True:
                try:
                    if buffer is None:
                        # No more than a record comes at once, and Python takes memory
                        # for all that may come: loops ask for 256 KiB.
                        size = self._size
                        data = read(len if len < size else size)
                    else:
                        data = read(len, buffer)
                except ssl.SSLWantReadError:
                    if self._is_whole:
                        self._note_empty()
                    if not (has_more and let_in()):
                        raise
                else:
                    self._is_whole = False
                    self._data_size += data if buffer is not None else data.__len__()
                    # close_notify, which OpenSSL remembers.
                    self._has_ended = not data
                    return data

        return read_gated

    def let_in(self) -> bool:
        """Let in the next record, or what has come of it; return whether it did."""
        source, missing = self._source, self._missing
        if not source.pending:
            return False
        if missing:
            header = b""
        else:
            header = self._header + source.read(HEADER_SIZE - len(self._header))
            if len(header) < HEADER_SIZE:
                self._header = header
                return False
            self._header = b""
            missing = header[3] << 8 | header[4]
            self.kind = header[0]
            self._size = HEADER_SIZE + missing
        data = source.read(missing)
        self._target.write(header + data)
        self._missing = missing - len(data)
        self._is_whole = not self._missing
        return bool(data) or self._is_whole

    def let_in_end(self, size: int) -> int:
        """Let in at most ``size`` bytes, drop all else, and return their number."""
        data = self._header + self._source.read()
        self._header = b""
        self._target.write(data[:size])
        return len(data[:size])

    def _note_empty(self) -> None:
        self._is_whole = False
        self._empty += 1
        if self._empty > EMPTY_LIMIT + self._data_size // DATA_PER_EMPTY:
            raise TooManyEmptyRecords
