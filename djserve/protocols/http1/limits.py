"""Where a request head begins and how large it may be, before it is parsed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.errors import ProtocolError

if TYPE_CHECKING:
    from djserve.conf.schema import HTTPConfig


# Bytes that a peer may send ahead of its turn; nginx keeps about as much.
PIPELINE_LIMIT = 64 * 1024

# Content that nobody reads is taken and dropped up to here, so that a response to half
# an upload arrives (RFC 9112 section 9.6: closing at once would reset the connection).
DISCARD_LIMIT = 256 * 1024


class HeadLimits:
    """Refuse heads that are too large, complete or not."""

    __slots__ = ("_header_size", "_request_line", "small")

    def __init__(self, config: HTTPConfig) -> None:
        self._request_line = config.request_line_limit
        self._header_size = config.header_size_limit
        # No head of this size can be over a limit.
        self.small = min(self._request_line, self._header_size)

    def check_partial(self, data: bytes) -> None:
        """Check the beginning of a head. Raises ProtocolError: 400, 414 or 431."""
        if data[0] < 0x21 or data.count(b"\n") != data.count(b"\r\n"):
            raise ProtocolError("Malformed request line")
        if len(data) > self.small:
            self.check(data)

    def check(self, data: bytes) -> None:
        """Check the size of a head. Raises ProtocolError: 414 or 431."""
        line = data.find(b"\r\n")
        if line < 0:
            line = len(data) - data.endswith(b"\r")
        if line > self._request_line:
            raise ProtocolError(
                "The request line is too long", 414, setting="REQUEST_LINE_LIMIT"
            )
        if len(data) - line - 4 > self._header_size:
            raise ProtocolError(
                "The header fields are too large", 431, setting="HEADER_SIZE_LIMIT"
            )


def skip_empty_lines(data: bytes) -> bytes:
    """Return ``data`` from the request line on (RFC 9112 section 2.2).

    A CR at the end may be half of one more empty line and stays.
    """
    rest = data.lstrip(b"\r\n")
    blank = data[: len(data) - len(rest)]
    count = blank.count(b"\r\n")
    if 2 * count == len(blank):
        return rest
    if 2 * count + 1 == len(blank) and not rest and blank.endswith(b"\r"):
        return b"\r"
    raise ProtocolError("Bare CR or LF before the request line")
