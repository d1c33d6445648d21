"""A request head's bytes to a ``RequestHead`` (RFC 9112 sections 2 to 6).

llhttp, by httptools, does the grammar in its strict mode: tokens, CRLF, no obs-fold,
no control bytes, no Content-Length together with Transfer-Encoding. It knows some
methods and ASCII targets only; any other request line is judged by
``protocols.grammar``, as over HTTP/2, and llhttp gets the rest. This module adds what a
server must know beyond grammar: the target's form, Host, framing and limits.
"""

# Why most heads do not go through llhttp
#
# llhttp is quick, and what it finds is told in a call to Python for each field, which
# is most of what a head costs. So a plain head is cut into its lines here: GET or HEAD
# in HTTP/1.1 with an ordinary target, and fields that frame nothing, whose names llhttp
# has passed before (benchmark: hello_heads).
#
# What is not known to be plain is left to llhttp, whole: a new name, content, an
# upgrade, a list in Connection, a control byte, a bare CR or LF, a folded line, a limit
# that is exceeded. So there is one place that refuses, except for an invalid Host, and
# a plain head need not be told from a wrong one. Tests compare both on mutated heads.

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httptools

from djserve.errors import ProtocolError
from djserve.interfaces import Repetition, RequestHead
from djserve.protocols.grammar import (
    check_authority,
    check_method,
    check_scheme,
    split_target,
)
from djserve.protocols.headers import (
    LEAST_MEMBERS_LIMIT,
    count_members,
    is_token,
    members_limit,
    split_list,
)

if TYPE_CHECKING:
    from typing import TypeAlias

    from djserve.conf.schema import HTTPConfig
    from djserve.interfaces import Headers

    PlainFields: TypeAlias = tuple[bytes, Headers, bool]
    """Field lines that frame nothing: as they came with the empty line, what they are,
    and whether the connection may persist."""

_split_line = re.compile(rb"([^ \r\n]+) ([^ \r\n]+) (HTTP/1\.[01])\r\n").match
_split_absolute = re.compile(rb"([^:/?#]+)://([^/?#]*)(.*)").fullmatch

# Methods that llhttp takes: what it refuses beside them is not the method.
_PLAIN_METHODS = frozenset(
    {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)

# The transfer codings of RFC 9112 section 7 beside chunked.
_CODINGS = frozenset({b"compress", b"deflate", b"gzip", b"x-compress", b"x-gzip"})

# What a plain head begins with: no content, origin-form, nothing unusual in it.
_match_plain_line = re.compile(
    rb"(GET|HEAD) (/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*)"
    rb"(?:\?([A-Za-z0-9\-._~!$&'()*+,;=:@%/?]*))? HTTP/1\.1\r\n"
).match

_SPECIAL_FIELDS = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"transfer-encoding",
        b"upgrade",
    }
)

# What a plain head has none of, but for Host and the two values of Connection. The
# empty name is that of a dropped field; llhttp takes Proxy-Connection for Connection.
_NOT_ALWAYS_PLAIN = _SPECIAL_FIELDS | {b"", b"proxy-connection"}
_PERSISTENCE = {b"close": False, b"keep-alive": True}

# RFC 9110 section 5.5: what no value has; a line that is cut has no CR nor LF either.
_CONTROLS = bytes(set(range(0x20)) - {0x09}) + b"\x7f"
_mark_controls = bytes.maketrans(_CONTROLS, b"?" * len(_CONTROLS))


_VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}

# Field names as peers write them, and what is made of them: lower case, or nothing
# if the field is dropped. Peers write few, and the same ones in every request
# (benchmark: http1_new).
_KNOWN_NAMES_LIMIT = 512
_KNOWN_NAME_SIZE_LIMIT = 64
_known_names: dict[bytes, bytes] = {}


def _lower_name(name: bytes) -> bytes:
    """Return the name in lower case, or b"" if the field is to be dropped."""
    # CVE-2015-0219: WSGI-like names fold "_" and "-" together, so that a client could
    # speak in a proxy's name.
    lowered = b"" if b"_" in name else name.lower()
    if len(name) <= _KNOWN_NAME_SIZE_LIMIT:
        if len(_known_names) >= _KNOWN_NAMES_LIMIT:
            _known_names.clear()
        _known_names[name] = lowered
    return lowered


# Field lines that peers repeat, each with its field: on a connection of a browser most
# lines of a head were in the one before (benchmark: hello_heads). Peers make them up,
# so the store is bounded. All connections share it, so it is for fields that tell of a
# program and not of a user: no cookie, credentials or address is kept in it.
_REPEATED_FIELDS = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"cache-control",
        b"connection",
        b"dnt",
        b"host",
        b"pragma",
        b"priority",
        b"sec-ch-ua",
        b"sec-ch-ua-mobile",
        b"sec-ch-ua-platform",
        b"sec-fetch-dest",
        b"sec-fetch-mode",
        b"sec-fetch-site",
        b"sec-fetch-user",
        b"sec-gpc",
        b"te",
        b"upgrade-insecure-requests",
        b"user-agent",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-requested-with",
    }
)
_KNOWN_LINES_LIMIT = 1024
_KNOWN_LINE_SIZE_LIMIT = 256
_known_lines: dict[bytes, tuple[bytes, bytes]] = {}


def _cut_line(line: bytes) -> tuple[bytes, bytes] | None:
    """Return the field of a line, None if llhttp has to judge it."""
    name, colon, value = line.partition(b":")
    known = _known_names.get(name)
    if known is None or not colon or line.translate(_mark_controls) != line:
        return None
    field = (known, value.strip(b" \t"))
    if known in _REPEATED_FIELDS and len(line) <= _KNOWN_LINE_SIZE_LIMIT:
        if len(_known_lines) >= _KNOWN_LINES_LIMIT:
            _known_lines.clear()
        _known_lines[line] = field
    return field


# RFC 9112 section 2.2 asks for one; a stream of them would be work for nothing.
_EMPTY_LINES_LIMIT = 4096


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


class HeadReader:
    """Have llhttp read one whole head after the other, of whatever connection.

    What it found is in the attributes until the next ``read``. ``is_complete`` tells
    whether the empty line was reached: a fault that comes after it is of the framing.
    An object of httptools costs more than to read a head (benchmark: http1_new).

    ``last`` are the last plain fields: a new connection may begin with the same ones.
    """

    __slots__ = (
        "_is_at_end",
        "_kept",
        "_parser",
        "dropped",
        "headers",
        "is_complete",
        "is_upgrade",
        "keep_alive",
        "last",
        "target",
    )

    def __init__(self) -> None:
        self._kept: httptools.HttpRequestParser | None = None
        self._parser: httptools.HttpRequestParser | None = None
        self.last: PlainFields = (b"", [], False)
        self._reset()

    def read(self, block: bytes) -> bytes:
        """Read a head, up to and with its empty line, and return its method.

        Raises httptools.HttpParserError.
        """
        self._reset()
        parser = self._parser = self._kept or httptools.HttpRequestParser(self)
        self._kept = None
        try:
            parser.feed_data(block)
            self._is_at_end = True
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            if not self.is_complete:
                raise
        method: bytes = parser.get_method()
        return method

    def keep(self) -> None:
        """Let the next head be read by the same object: this one had no content.

        After content, a fault or the last request of a connection llhttp waits for what
        is not handed to it.
        """
        if self._is_at_end and self.keep_alive:
            self._kept = self._parser

    def _reset(self) -> None:
        self.target = b""
        self.headers: Headers = []
        self.dropped = 0
        self.keep_alive = False
        self.is_complete = False
        self.is_upgrade = False
        self._is_at_end = False

    # httptools calls these three.

    def on_url(self, url: bytes) -> None:
        self.target = url

    def on_header(self, name: bytes, value: bytes) -> None:
        known = _known_names.get(name)
        if known is None:
            known = _lower_name(name)
        if known:
            self.headers.append((known, value.rstrip(b" \t")))
        else:
            self.dropped += 1

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        # llhttp forgets both at the message's end, which feed_data may reach at once.
        self.keep_alive = parser.should_keep_alive()
        self.is_upgrade = parser.should_upgrade()
        self.is_complete = True


class HeadParser:
    """Parse the request heads of one connection, one after the other.

    ``reader`` may be shared by all connections of one event loop.
    """

    __slots__ = (
        "_config",
        "_last_host",
        "_reader",
        "_seen",
        "_seen_block",
        "_seen_head",
        "keep_alive",
    )

    def __init__(self, config: HTTPConfig, reader: HeadReader) -> None:
        self._config = config
        self._reader = reader
        self._last_host: bytes | None = None
        # A client that connects anew for each request: a probe, a script (benchmark:
        # http1_new).
        self._seen = reader.last
        self._seen_block = b""
        self._seen_head: RequestHead | None = None
        self.keep_alive = False

    def parse(self, block: bytes) -> RequestHead:
        """Parse a whole head, up to and with its empty line.

        Afterwards ``keep_alive`` tells whether the connection may persist (RFC 9112
        section 9.3). Raises ProtocolError, after which the connection must be closed.
        """
        # A client that asks for the same again and again: a probe, one that polls
        # (benchmark: http1_hello).
        if block == self._seen_block:
            return self._repeat()
        head = self._parse_plain(block)
        if head is not None:
            return head
        reader = self._reader
        try:
            method = reader.read(block)
        except httptools.HttpParserError as error:
            return self._parse_unusual(block, error)
        if not reader.is_complete:
            raise ProtocolError("Malformed request head")
        head = self._build_head(method, reader.target, block)
        if not head.has_body:
            reader.keep()
        return head

    def _parse_unusual(
        self, block: bytes, error: httptools.HttpParserError
    ) -> RequestHead:
        """Parse a head whose request line has more than llhttp takes.

        That is any method but those it knows, and bytes beyond ASCII in the target.
        """
        line = _split_line(block)
        if line is None:
            raise ProtocolError(str(error) or "Malformed request")
        method, target, _ = line.groups()
        name = check_method(method)
        if name in _PLAIN_METHODS and target.isascii():
            raise ProtocolError(str(error) or "Malformed request")
        if target[:1] == b"/":
            # ``_build_head`` takes it for judged, by llhttp, which has not come to it.
            split_target(name, target)
        try:
            self._reader.read(b"POST / " + block[line.start(3) :])
        except httptools.HttpParserError as fault:
            raise ProtocolError(str(fault) or "Malformed request") from None
        if not self._reader.is_complete:
            raise ProtocolError("Malformed request head")
        return self._build_head(method, target, block)

    def _parse_plain(self, block: bytes) -> RequestHead | None:
        """Parse a plain head without llhttp; return None if that is to decide.

        Field lines that are, byte for byte, the last ones are not looked at twice: a
        client on a kept connection mostly sends the same (benchmark: http1_hello).
        Raises ProtocolError for an invalid Host.
        """
        match = _match_plain_line(block)
        if match is None:
            return None
        lines = block[match.end() :]
        is_repeated = lines == self._seen[0]
        if not is_repeated:
            fields = self._cut(lines)
            if fields is None:
                return None
            self._seen = self._reader.last = fields
            self._seen_block = b""
        # The lines of the last head in place of these, which connections would keep.
        lines, headers, self.keep_alive = self._seen
        name, path, query = match.groups(b"")
        method = "GET" if name == b"GET" else "HEAD"
        head = RequestHead(method, path, query, headers.copy(), "1.1")
        head.field_lines = lines
        if is_repeated:
            self._seen_block = block
            self._seen_head = head
        return head

    def _cut(self, lines: bytes) -> PlainFields | None:
        """Cut the field lines of a head; return None if they are not plain ones."""
        headers: Headers = []
        host = None
        keep_alive = True
        cut = lines[:-4].split(b"\r\n")
        for line in cut:
            field = _known_lines.get(line) or _cut_line(line)
            if field is None:
                return None
            name = field[0]
            if name in _NOT_ALWAYS_PLAIN:
                if not name:
                    continue
                if name == b"host" and host is None:
                    host = field[1]
                elif name == b"connection" and field[1].lower() in _PERSISTENCE:
                    keep_alive &= _PERSISTENCE[field[1].lower()]
                else:
                    return None
            headers.append(field)
        if (
            host is None
            or len(cut) > self._config.header_count_limit
            or (len(lines) > LEAST_MEMBERS_LIMIT and self._has_too_many(headers))
        ):
            return None
        if host != self._last_host:
            self._check_host(host)
        return lines, headers, keep_alive

    def _repeat(self) -> RequestHead:
        """Return the head that stands for all requests of these bytes."""
        head = self._seen_head
        assert head is not None
        self.keep_alive = self._seen[2]
        if head.repetition is None:
            # The headers of the first one are its application's.
            head = head.copy(self._seen[1])
            head.repetition = Repetition()
            self._seen_head = head
        return head

    def _build_head(self, method: bytes, target: bytes, block: bytes) -> RequestHead:
        reader = self._reader
        headers = reader.headers
        self.keep_alive = reader.keep_alive
        if len(headers) + reader.dropped > self._config.header_count_limit:
            raise ProtocolError(
                "Too many header fields", 431, setting="HEADER_COUNT_LIMIT"
            )
        # No head has more members than bytes.
        if len(block) > LEAST_MEMBERS_LIMIT and self._has_too_many(headers):
            raise ProtocolError(
                "Too many members in the header fields",
                431,
                setting="HEADER_COUNT_LIMIT",
            )
        if method == b"CONNECT":
            check_method(method)
        line_end = block.find(b"\r\n")
        version = _VERSIONS.get(block[line_end - 8 : line_end])
        # llhttp takes several spaces, and versions beyond 1.1, in a request line.
        if version is None or line_end != len(method) + len(target) + 10:
            raise ProtocolError("Malformed request line")
        raw_path, _, query = target.partition(b"?")
        head = RequestHead(method.decode("ascii"), raw_path, query, headers, version)
        self._apply_fields(head)
        if not reader.is_upgrade:
            # RFC 9110 section 7.8: without Connection: Upgrade it is not meant for us.
            head.upgrade = None
        if head.upgrade and head.has_body:
            raise ProtocolError("A WebSocket handshake has no content")
        if raw_path[:1] != b"/" or b"#" in target or not target.isascii():
            # llhttp has judged the characters of all others, as the grammar does.
            _apply_target_form(head, target)
        return head

    def _has_too_many(self, headers: Headers) -> bool:
        """Return whether the lists of a head have too many members."""
        return count_members(headers) > members_limit(self._config.header_count_limit)

    def _apply_fields(self, head: RequestHead) -> None:
        """Apply the fields that the server itself obeys."""
        version = head.http_version
        hosts = 0
        for name, value in [
            pair for pair in head.headers if pair[0] in _SPECIAL_FIELDS
        ]:
            if name == b"host":
                hosts += 1
                self._check_host(value)
            elif name != b"connection":
                _apply_framing(head, name, value.strip(b" \t"))
            elif version == "1.0" and b"close" in split_list(value):
                # RFC 9112 section 9.3: close wins; with llhttp keep-alive does.
                self.keep_alive = False
        if hosts != 1 and (hosts or version == "1.1"):
            raise ProtocolError(f"{hosts} Host fields in the request, expected one")

    def _check_host(self, value: bytes) -> None:
        if value != self._last_host:
            check_authority(value)
            self._last_host = value


def skip_empty_lines(data: bytes) -> bytes:
    """Return ``data`` from the request line on (RFC 9112 section 2.2).

    A CR at the end may be half of one more empty line and stays. Raises ProtocolError.
    """
    rest = data.lstrip(b"\r\n")
    blank = data[: len(data) - len(rest)]
    if len(blank) > _EMPTY_LINES_LIMIT:
        raise ProtocolError("Too many empty lines before the request line")
    count = blank.count(b"\r\n")
    if 2 * count == len(blank):
        return rest
    if 2 * count + 1 == len(blank) and not rest and blank.endswith(b"\r"):
        return b"\r"
    raise ProtocolError("Bare CR or LF before the request line")


def _apply_framing(head: RequestHead, name: bytes, value: bytes) -> None:
    if name == b"content-length":
        head.content_length = int(value)
        head.has_body = head.content_length > 0
    elif name == b"transfer-encoding":
        # RFC 9112 section 6.1: no Content-Length beside it, and none in HTTP/1.0.
        if (
            head.has_body
            or head.content_length is not None
            or head.http_version != "1.1"
        ):
            raise ProtocolError(f"Misplaced Transfer-Encoding {value!r:.100}")
        if value.lower() != b"chunked":
            raise _coding_error(value)
        head.has_body = True
    elif head.http_version == "1.0":
        # RFC 9110 sections 7.8 and 10.1.1: both are ignored in HTTP/1.0.
        return
    elif name == b"expect":
        if value.lower() != b"100-continue":
            raise ProtocolError(f"Unknown expectation {value!r:.100}", 417)
        head.expects_continue = True
    elif b"websocket" in split_list(value):
        head.upgrade = b"websocket"


def _coding_error(value: bytes) -> ProtocolError:
    """Return the refusal of a transfer coding that is not chunked alone."""
    codings = value.lower().replace(b"\t", b" ").split(b",")
    codings = [coding.strip(b" ") for coding in codings]
    if (
        not all(map(is_token, codings))
        or b"chunked" in codings[:-1]
        or codings[-1] in _CODINGS
    ):
        # RFC 9112 section 6.3: where the content ends is not known.
        return ProtocolError(f"Malformed Transfer-Encoding {value!r:.100}")
    # RFC 9112 section 6.1.
    return ProtocolError(f"Unknown Transfer-Encoding {value!r:.100}", 501)


def _apply_target_form(head: RequestHead, target: bytes) -> None:
    """Reduce absolute-form, split the others (RFC 9112 section 3.2)."""
    parts = _split_absolute(target)
    if parts is None:
        head.raw_path, head.query = split_target(head.method, target)
        return
    scheme, authority, rest = parts.groups()
    check_scheme(scheme)
    check_authority(authority)
    if rest[:1] != b"/":
        rest = b"/" + rest
    head.raw_path, head.query = split_target(head.method, rest)
    # RFC 9112 section 3.2.2: the target's authority replaces the Host field.
    head.headers = [field for field in head.headers if field[0] != b"host"]
    head.headers.insert(0, (b"host", authority))
