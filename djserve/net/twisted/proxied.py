"""The PROXY header of Twisted's ``haproxy:`` endpoints, judged as PROXY_PROTOCOL's is.

Twisted's parser raises on bytes beyond ASCII, wants the begin of version 2 in one
piece, and refuses a line without addresses, which health checks send.
"""

from __future__ import annotations

import logging
from typing import Any

from twisted.protocols.policies import ProtocolWrapper

from djserve.net.proxy_protocol import (
    BadHeader,
    ProxyHeader,
    missing_bytes,
    parse_header,
)

logger = logging.getLogger("djserve.net")

# Twisted keeps the class in a private module.
_WRAPPER = "HAProxyProtocolWrapper"


def judge_headers(transport: Any) -> None:
    """Put a judge before each wrapper of this kind that a connection goes through."""
    while isinstance(transport, ProtocolWrapper):
        if type(transport).__name__ == _WRAPPER:
            _HeaderJudge(transport)
        transport = transport.transport


class _HeaderJudge:
    """Take the place of a wrapper's ``dataReceived`` until the header is complete.

    The wrapper gets the header in the one form that its parser takes on every version.
    """

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper
        self._data = b""
        self._size = 0
        wrapper.dataReceived = self._receive

    def _receive(self, data: bytes) -> None:
        self._data += data
        try:
            header = self._read()
        except BadHeader as error:
            logger.info("Refused a connection without a PROXY header: %s", error)
            self._wrapper.dataReceived = _ignore
            self._wrapper.loseConnection()
            return
        if header is not None:
            # The method of its class is visible again.
            del self._wrapper.dataReceived
            self._wrapper.dataReceived(_write(header) + self._data[self._size :])

    def _read(self) -> ProxyHeader | None:
        """Return the header, None if there is more of it to come."""
        while missing := missing_bytes(self._data[: self._size]):
            if len(self._data) < self._size + missing:
                return None
            self._size += missing
        return parse_header(self._data[: self._size])


def _ignore(data: bytes) -> None:
    """Take what comes before the connection's end."""


def _write(header: ProxyHeader) -> bytes:
    """Write a header as version 1 has it."""
    if header.client is None or header.server is None:
        return b"PROXY UNKNOWN \r\n"
    (source, source_port), (target, target_port) = header.client, header.server
    version = 6 if ":" in source else 4
    text = f"PROXY TCP{version} {source} {target} {source_port} {target_port}\r\n"
    return text.encode("ascii")
