"""A TLS connection's input, of which OpenSSL gets a few records at a time.

What costs OpenSSL most, for what it costs a peer, is a key update (RFC 8446 section
4.6.3): 27 bytes, 76 microseconds. OpenSSL works all of its input off before it returns,
sets no bound on such records and does not tell of them. But a record's header is in the
clear, and reads that return data are fewer than the records if some had none.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# RFC 8446 section 5.1.
_HEADER_SIZE = 5

# Records that OpenSSL gets at a time: 2.5 ms of key updates.
_BATCH = 32

EMPTY_LIMIT = 32
"""Records without data that a peer may send; peers update keys every 2^24 records."""

_DATA_PER_EMPTY = 16 * 1024

# Taken from the event loop's buffer at a time: enough for some whole records, and less
# than what malloc() maps anew each time.
_PIECE = 64 * 1024


class TooManyEmptyRecords(ssl.SSLError):
    """A peer sends records without data; for an event loop it is a failure of TLS."""

    def __init__(self) -> None:
        super().__init__(1, "too many TLS records without application data")


class RecordGate:
    """What lies between an event loop's buffer and OpenSSL's own.

    The event loop writes to ``source`` what arrives, and OpenSSL reads ``target``. At
    the beginning of ``source`` a record begins. ``target`` is refilled when OpenSSL has
    taken all of it, which is when the records that have given no data had none.
    """

    __slots__ = (
        "_data_size",
        "_empty",
        "_held",
        "_missing",
        "_records",
        "_source",
        "_target",
    )

    def __init__(self, source: ssl.MemoryBIO, target: ssl.MemoryBIO) -> None:
        self._source = source
        self._target = target
        # Taken from the source, and to be let in later.
        self._held: bytes | memoryview = b""
        # Bytes of the record that was let in last.
        self._missing = 0
        # Those that were let in to their end and have not given data.
        self._records = 0
        self._empty = 0
        self._data_size = 0

    def connect(self, read: Callable[..., Any]) -> Callable[..., Any]:
        """Return what reads as ``read`` does, OpenSSL's, having let in what it needs.

        It raises TooManyEmptyRecords, and what ``read`` raises. For a loop that keeps
        it, a read is one call of Python's more (a small record: 2 microseconds).
        """
        let_in, target = self._let_in, self._target

        def read_gated(len: int = 1024, buffer: Any = None) -> Any:
            # Without more to let in, OpenSSL may still have the rest of a record.
            has_more = True
            if not target.pending:
                has_more = let_in(_BATCH)
            while True:
                try:
                    data = read(len) if buffer is None else read(len, buffer)
                except ssl.SSLWantReadError:
                    if not (has_more and let_in(_BATCH)):
                        raise
                else:
                    if self._records:
                        self._records -= 1
                    self._data_size += data if buffer is not None else data.__len__()
                    return data

        return read_gated

    def let_in_handshake(self) -> bool:
        """Let in one record, so that no later ones are; return False without one."""
        self._records = 0
        return self._let_in(1)

    def let_in_end(self, size: int) -> int:
        """Let in at most ``size`` bytes, drop all else, and return their number."""
        data = bytes(self._held) + self._source.read()
        self._held = b""
        self._target.write(data[:size])
        return len(data[:size])

    def _let_in(self, most: int) -> bool:
        """Let in the next records; return whether there was anything."""
        if self._records:
            self._note_empty()
        data = self._held or self._source.read(_PIECE)
        size = len(data)
        if not size:
            return False
        if (
            size > _HEADER_SIZE
            and not self._missing
            and (data[3] << 8 | data[4]) + _HEADER_SIZE == size
        ):
            # One record, as most turns of a loop bring.
            self._held = b""
            self._records = 1
            self._target.write(data)
            return True
        end = self._find_end(data, most)
        if not end and (more := self._source.read(_PIECE)):
            # Part of a header is of no use to OpenSSL.
            data = bytes(data) + more
            end = self._find_end(data, most)
        if end == len(data):
            self._held = b""
            self._target.write(data)
        else:
            view = memoryview(data)
            self._held = view[end:]
            self._target.write(view[:end])
        return end > 0

    def _find_end(self, data: bytes | memoryview, most: int) -> int:
        """Return where the next records end, and count them."""
        size = len(data)
        position = min(self._missing, size)
        if position:
            self._missing -= position
            self._records += not self._missing
        for _ in range(most):
            if size - position < _HEADER_SIZE:
                break
            length = data[position + 3] << 8 | data[position + 4]
            position += _HEADER_SIZE + length
            if position > size:
                self._missing = position - size
                return size
            self._records += 1
        return position

    def _note_empty(self) -> None:
        self._empty += self._records
        self._records = 0
        if self._empty > EMPTY_LIMIT + self._data_size // _DATA_PER_EMPTY:
            raise TooManyEmptyRecords
