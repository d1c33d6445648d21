"""A TLS connection's input, of which OpenSSL gets a few records at a time.

What costs OpenSSL most, for what it costs a peer, is a key update (RFC 8446 section
4.6.3): 27 bytes, 76 microseconds. OpenSSL works all of its input off before it returns,
sets no bound on such records and does not tell of them. But a record's header is in the
clear, and reads that return data are fewer than the records if some had none.
"""

from __future__ import annotations

import ssl
from typing import Any

# RFC 8446 section 5.1.
_HEADER_SIZE = 5

# Records that OpenSSL gets at a time: 2.5 ms of key updates.
_BATCH = 32

EMPTY_LIMIT = 32
"""Records without data that a peer may send; peers update keys every 2^24 records."""

_DATA_PER_EMPTY = 16 * 1024


class TooManyEmptyRecords(ssl.SSLError):
    """A peer sends records without data; for an event loop it is a failure of TLS."""

    def __init__(self) -> None:
        super().__init__(1, "too many TLS records without application data")


def is_one_record(data: bytes) -> bool:
    """Return whether these bytes are one record, as most turns of a loop bring it."""
    return len(data) > 4 and (data[3] << 8 | data[4]) + _HEADER_SIZE == len(data)


class RecordGate:
    """Let records through to ``incoming``, the input that OpenSSL reads.

    An event loop puts what arrives into ``incoming`` as well. ``data`` is what has come
    so far; a record begins there.
    """

    __slots__ = (
        "_data_size",
        "_empty",
        "_held",
        "_incoming",
        "_let_in",
        "_missing",
        "_records",
    )

    def __init__(self, incoming: ssl.MemoryBIO, data: bytes) -> None:
        self._incoming = incoming
        self._held = memoryview(data)
        # What was let in, and OpenSSL has not taken yet.
        self._let_in = 0
        # Of the record that was let in last.
        self._missing = 0
        # Those that were let in to their end and have not given data.
        self._records = 0
        self._empty = 0
        self._data_size = 0

    @property
    def is_idle(self) -> bool:
        """Whether a record begins with what arrives next, and nothing was wrong."""
        return not (self._held or self._missing or self._empty or self._let_in)

    def read(self, connection: Any, *args: Any) -> Any:
        """Return what ``connection.read(*args)`` does, having let in what it needs.

        Raises TooManyEmptyRecords, and what ``connection`` raises.
        """
        self._take_over()
        while True:
            if not self._let_in:
                self._feed()
            try:
                data = connection.read(*args)
            except ssl.SSLWantReadError:
                was_fed, self._let_in = self._let_in, 0
                self._note_empty()
                if not (was_fed and self._held):
                    raise
            else:
                self._let_in = self._incoming.pending
                self._records = max(0, self._records - 1)
                self._data_size += data if isinstance(data, int) else len(data)
                return data

    def _take_over(self) -> None:
        """Hold what the loop has put behind what was let in."""
        if self._incoming.pending > self._let_in:
            data = self._incoming.read()
            if self._let_in:
                self._incoming.write(data[: self._let_in])
            held = bytes(self._held) + data[self._let_in :]
            self._held = memoryview(held)

    def _feed(self) -> None:
        end = self._find_end()
        if end:
            self._incoming.write(self._held[:end])
            self._held = self._held[end:]
        self._let_in = end

    def _find_end(self) -> int:
        """Return where the next records end, and count them."""
        held, size = self._held, len(self._held)
        position = min(self._missing, size)
        if position:
            self._missing -= position
            self._records += not self._missing
        for _ in range(_BATCH):
            if size - position < _HEADER_SIZE:
                # Of no use to OpenSSL before the rest has come.
                break
            length = held[position + 3] << 8 | held[position + 4]
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
