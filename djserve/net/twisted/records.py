"""The input of Twisted's TLS, of which OpenSSL gets one record at a time.

Twisted hands OpenSSL all that has come, which works it off before it returns; what a
client can make of that is said in ``net.tls_records``.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from twisted.protocols.policies import ProtocolWrapper

from djserve.net.tls_records import DATA_PER_EMPTY, EMPTY_LIMIT, HEADER_SIZE

logger = logging.getLogger("djserve.net")


def bound_records(transport: Any) -> None:
    """Bound the records without data on each layer of TLS below a protocol."""
    tls = sys.modules.get("twisted.protocols.tls")
    while tls is not None and isinstance(transport, ProtocolWrapper):
        is_bound = "dataReceived" in vars(transport)
        if isinstance(transport, tls.TLSMemoryBIOProtocol) and not is_bound:
            _RecordCounter(transport)
        transport = transport.transport


class _RecordCounter:
    """Take the place of a layer's ``dataReceived``; the layer has its connection.

    A record after which nothing could be read was one without data, as those of the
    handshake are.
    """

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._receive_below = layer.dataReceived
        layer.dataReceived = self._receive
        connection = layer.getHandle()
        self._read_below = connection.recv
        connection.recv = self._read
        self._held = b""
        # Bytes of the record that was let in last.
        self._missing = 0
        self._has_data = False
        self._empty = 0
        self._data_size = 0

    def _read(self, size: int) -> bytes:
        data: bytes = self._read_below(size)
        self._has_data = True
        self._data_size += len(data)
        return data

    def _receive(self, data: bytes) -> None:
        data, self._held = self._held + data, b""
        position = 0
        while position < len(data) and self._layer.connected:
            if not self._missing:
                header = data[position : position + HEADER_SIZE]
                if len(header) < HEADER_SIZE:
                    self._held = header
                    return
                self._missing = HEADER_SIZE + (header[3] << 8 | header[4])
                self._has_data = False
            part = data[position : position + self._missing]
            position += len(part)
            self._missing -= len(part)
            self._receive_below(part)
            if not (self._missing or self._has_data):
                self._empty += 1
                if self._empty > EMPTY_LIMIT + self._data_size // DATA_PER_EMPTY:
                    logger.info("Closed a connection: its TLS records have no data")
                    self._layer.abortConnection()
                    return
