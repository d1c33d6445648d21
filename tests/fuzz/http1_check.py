"""HTTP/1.1 as h11 sees it: an independent parser for both directions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import h11

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from djserve.interfaces import RequestHead
    from tests.fuzz.exchanges import CheckedExchange

_SIZE_LIMIT = 1 << 20
_DONE = {"DONE", "MUST_CLOSE", "MIGHT_SWITCH_PROTOCOL"}

# RFC 9112 section 2.2 lets a server skip empty lines; section 7.1.1 has it take blanks
# before a chunk's extension. h11 does neither.
_skip_empty_lines = re.compile(rb"(?:\r\n)*").match
_spaced_extension = re.compile(rb"[0-9A-Fa-f][ \t]+;")


class Parsed(NamedTuple):
    """A request as a parser has understood it."""

    method: bytes
    content: bytes
    is_strange: bool
    """h11 wants no framing fields in trailers; what is never looked at may be there."""


def find_smuggled(data: bytes, exchanges: Sequence[CheckedExchange]) -> list[str]:
    """Return what is not in ``data`` as h11 reads it: requests, or parts of content."""
    if _spaced_extension.search(data):
        return []
    theirs = parse_requests(data)
    faults: list[str] = []
    for exchange in exchanges:
        parsed = next(theirs, None)
        if parsed is not None and parsed.is_strange:
            break
        if not (exchange.head.raw_path + exchange.head.query).isascii():
            # h11 reads no target in UTF-8, which is taken here on purpose, and so
            # nothing that follows it.
            break
        if parsed is None:
            return [*faults, f"not a request to h11: {exchange.head.raw_path!r}"]
        content = bytes(exchange.content)
        if exchange.head.method.encode() != parsed.method:
            faults.append(f"{exchange.head.method}, to h11 {parsed.method!r}")
        is_same = parsed.content == content
        if not (
            is_same if exchange.is_complete else parsed.content.startswith(content)
        ):
            faults.append(f"content {content[:80]!r}, to h11 {parsed.content[:80]!r}")
    return faults


def parse_requests(data: bytes) -> Iterator[Parsed]:
    """Yield the requests that h11 takes from ``data``.

    The last one's content may be a part of it only.
    """
    rest: bytes | None = data
    while rest:
        match = _skip_empty_lines(rest)
        assert match is not None
        parsed, rest = _parse_request(rest[match.end() :])
        if parsed is not None:
            yield parsed


def _parse_request(data: bytes) -> tuple[Parsed | None, bytes | None]:
    """Return the first request, and what follows if the connection persists."""
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=_SIZE_LIMIT)
    for part in (data, b"") if data else (b"",):
        server.receive_data(part)
    request: h11.Request | None = None
    content = b""
    is_strange = False
    try:
        while not isinstance(event := server.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                content += event.data
            else:
                break
    except h11.RemoteProtocolError as error:
        is_strange = "Length" in str(error) or "Encoding" in str(error)
    if request is None:
        return None, None
    parsed = Parsed(request.method, content, is_strange)
    if str(server.their_state) not in _DONE:
        return parsed, None
    options = b",".join(v.lower() for n, v in request.headers if n == b"connection")
    names = [name.strip() for name in options.split(b",")]
    is_kept = request.http_version >= b"1.1" or b"keep-alive" in names
    is_kept &= b"close" not in names
    return parsed, server.trailing_data[0] if is_kept else None


class Answer(NamedTuple):
    """A response as the client has understood it; its size is -1 if it is not whole."""

    status: int
    size: int


def parse_responses(
    data: bytes, heads: Sequence[RequestHead | None]
) -> tuple[list[Answer], bytes]:
    """Return the responses in ``data`` to requests with these heads.

    And what follows a 101. Raises h11.RemoteProtocolError for what no client can read,
    and AssertionError for responses that nobody asked for.
    """
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=_SIZE_LIMIT)
    for part in (data, b"") if data else (b"",):
        client.receive_data(part)
    answers: list[Answer] = []
    for head in heads:
        answer = _parse_response(client, head)
        if answer is None:
            break
        answers.append(answer)
        if answer.status == 101:
            return answers, client.trailing_data[0]
        if client.our_state is not h11.DONE or client.their_state is not h11.DONE:
            break
        client.start_next_cycle()
    rest = client.trailing_data[0]
    assert not rest, f"not asked for: {rest[:200]!r}"
    return answers, b""


def _parse_response(client: h11.Connection, head: RequestHead | None) -> Answer | None:
    fields = [("host", "a")]
    if head is not None and head.upgrade:
        fields += [("connection", "upgrade"), ("upgrade", "websocket")]
    method = head.method if head is not None else "GET"
    client.send(h11.Request(method=method, target="/", headers=fields))
    client.send(h11.EndOfMessage())
    status = size = 0
    while True:
        try:
            event = client.next_event()
        except h11.RemoteProtocolError as error:
            # A response that was broken off, which shows.
            if "closed" in str(error).lower():
                return Answer(status, -1) if status else None
            raise
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.InformationalResponse):
            if event.status_code == 101:
                return Answer(101, 0)
        elif isinstance(event, h11.Data):
            size += len(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, size)
        else:
            return Answer(status, -1) if status else None
