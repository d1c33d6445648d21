"""A response from its parts to bytes: head, framing, content, trailers (RFC 9112).

``ResponseWriter`` writes one response after the other. It knows nothing of requests
that follow, nor of the connection's end; it tells whether the framing asks for that.
"""

# Why a part of a response may wait for the end of the loop's turn
#
# An application that has ten rows or events at hand sends ten parts without letting the
# loop run. Each would be a system call, and a segment for the client to wake up for. So
# parts of one turn are joined, and leave in one write at its end.
#
# The loop does not tell where its turns begin and end. A callback can be asked for with
# ``call_soon``, but to do so for each part costs a client that gets one event at a time
# a fifth more (benchmark: event_stream), and it is the usual one. So the clock is read,
# and a part is suspected to share a turn if it comes within ``_SAME_TURN`` of the one
# before. Of a response none of whose parts has waited for another, the first of a turn
# is never held: an event that is alone leaves at once. Once some have left together,
# the first waits, too, until one has been alone twice.
#
# A suspicion can be wrong in two ways, and each has its measure:
#
# - The parts come fast, but in turns of their own. A part that has waited alone, twice,
#   has ``trust`` given to the next ``_TRUST`` parts: they are written as they come.
# - The turn is long. An application that computes between two events, and does not let
#   the loop run, would have all but the first wait until it is through: progress that
#   should appear in steps arrives at once, at the end. So nothing is held before turns
#   were seen to be short, and a turn of more than ``_LONG_TURN``, whose parts are late,
#   ends that for ``_CAUTION`` seconds. The application blocks the loop for all
#   connections alike, which is why they share one ``PartTiming``.
#
# What waits is bounded: a long part is worth a write to itself, and at ``_JOIN_LIMIT``
# all that waits is written. The response's last part, trailers included, takes along
# what waits before it, so the order of bytes never changes; a response whose peer has
# gone forgets it (``drop``).

from __future__ import annotations

import time
from enum import IntEnum
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from djserve.errors import ApplicationError
from djserve.protocols.extensions import offer
from djserve.protocols.headers import (
    STATUSES_WITHOUT_CONTENT,
    Field,
    check_status,
    encode_fields,
    encode_line,
    get_known_line,
    parse_length,
    split_list,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from djserve.errors import ProtocolError
    from djserve.interfaces import Headers, RequestHead

    HeadLines: TypeAlias = tuple[bytes, int, bool, tuple[Field, ...]]
    """What of a head is the application's: the status line and the fields as bytes, the
    content's length by them or -1, whether they ask for the connection's end, and which
    of them take the place of the server's own."""


class Framing(IntEnum):
    """How the peer finds the end of the content."""

    NONE = 0
    """No content: HEAD, 204, 205, 304 (RFC 9110 9.3.2, 15.3.5, 15.3.6, 15.4.5)."""
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3
    """Until the connection closes: an HTTP/1.0 peer and a length not known."""


# An enum's members cost a descriptor each time (Python 3.11), and every response
# compares some (benchmark: http1_hello).
_NONE, _LENGTH, _CHUNKED, _CLOSE = Framing
_CONTENT_LENGTH = Field.CONTENT_LENGTH

# Where the value begins in a line, which ends with CRLF.
_LENGTH_START = len(b"content-length: ")

_CLOSE_LINE = b"connection: close\r\n"

# Above this, joining head and content costs more than a second write.
_JOIN_LIMIT = 64 * 1024

# Above this, a part of a response is worth a write to itself.
_PART_LIMIT = 16 * 1024

# A part that comes so soon after another, in seconds, may be of the same turn of the
# loop. If two were not, so many that come as soon are not suspected.
_SAME_TURN = 0.001
_TRUST = 128

# A turn that takes longer, in seconds, makes an event late that waits for its end. The
# application that has such turns may block the loop again, so for some time no part of
# any response waits, until turns have been seen that are short.
_LONG_TURN = 0.02
_CAUTION = 10.0
_NEVER, _ALWAYS = float("-inf"), float("inf")

EXTENSIONS = {
    "1.1": offer("early_hint", "trailers", "pathsend", "zerocopysend"),
    # It knows neither interim responses nor chunks.
    "1.0": offer("pathsend", "zerocopysend"),
}
"""By the version of HTTP: the extensions of ASGI that work for a request."""


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase.encode("ascii"))


_STATUS_LINES = {status.value: _status_line(status) for status in HTTPStatus}

# Heads of lines that repeat, whole: most responses begin as one before them did
# (benchmark: http1_hello). The pairs are an application's, so the store is bounded.
_KNOWN_HEADS_LIMIT = 1024
_known_heads: dict[tuple[int, tuple[tuple[bytes, bytes], ...]], HeadLines] = {}


class ResponseDefaults:
    """Fields that the server adds to every response: Date and Server, cached as bytes.

    The owner of the clock calls ``set_date`` about once a second.
    """

    __slots__ = ("date", "date_and_server", "end", "server")

    def __init__(self, server_name: str) -> None:
        self.server = b""
        if server_name:
            self.server = b"server: " + server_name.encode("latin-1") + b"\r\n"
        self.set_date(b"")

    def set_date(self, value: bytes) -> None:
        """Take the current IMF-fixdate (RFC 9110 section 5.6.7)."""
        self.date = b"date: " + value + b"\r\n" if value else b""
        self.date_and_server = self.date + self.server
        self.end = self.date_and_server + b"\r\n"


class PartTiming:
    """What responses that come in parts know of the loop's turns.

    ``call_soon`` runs a callable in the next one. ``clock`` returns seconds.
    ``are_short`` says that turns in which several parts have come were short ones
    lately; none waits for the end of a turn before that is known.
    """

    __slots__ = ("_cautious_until", "are_short", "call_soon", "clock")

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.call_soon = call_soon
        self.clock = clock
        self.are_short = False
        self._cautious_until = _NEVER

    def turn_was_short(self, now: float) -> None:
        """Let parts wait from now on, unless a turn was long a short time ago."""
        if not self.are_short and now >= self._cautious_until:
            self.are_short = True

    def turn_is_long(self, now: float) -> None:
        """Let none wait for some time: the application blocks the loop."""
        self.are_short = False
        self._cautious_until = now + _CAUTION


class ResponseHead:
    """The head as bytes, and the framing that it promises.

    ``data`` is whole but for the connection's own fields, and ``end`` closes it.
    ``remaining`` counts down the bytes of a promised length. ``close`` says that the
    application or the framing asks for the connection's end.

    A response in parts has those in ``waiting`` that leave together at the turn's end,
    of ``waiting_size`` bytes. A part waits if it comes before ``waits_until``, by the
    clock of ``PartTiming``, unless it is one of the next ``trust``. ``was_alone`` says
    that the last one has waited for no other. ``turn_began`` is when the first came of
    those that are suspected to be of the turn that runs, 0 if none is.
    """

    __slots__ = (
        "close",
        "data",
        "end",
        "framing",
        "remaining",
        "trust",
        "turn_began",
        "waiting",
        "waiting_size",
        "waits_until",
        "was_alone",
    )

    data: bytes
    end: bytes
    trust: int
    turn_began: float
    waiting: list[bytes]
    waiting_size: int
    waits_until: float
    was_alone: bool

    def __init__(self) -> None:
        self.framing: Framing = _LENGTH
        self.remaining = 0
        self.close = False


class ResponseWriter:
    """Write one response after the other, each in the framing that fits it.

    ``request`` is the one that is answered, set by the connection and forgotten with
    the response's end. ``must_close`` says that a response has announced the end of the
    connection.
    """

    __slots__ = (
        "_clock",
        "_defaults",
        "_response",
        "_timing",
        "_write",
        "must_close",
        "request",
    )

    def __init__(
        self,
        write: Callable[[bytes], object],
        defaults: ResponseDefaults,
        timing: PartTiming,
    ) -> None:
        self._write = write
        self._defaults = defaults
        self._timing = timing
        self._clock = timing.clock
        self.request: RequestHead | None = None
        self._response: ResponseHead | None = None
        self.must_close = False

    @property
    def is_started(self) -> bool:
        """Whether a final response has been started and has not ended."""
        return self._response is not None

    @property
    def ends_by_close(self) -> bool:
        """Whether a regular end of the connection would look like the content's."""
        return self._response is not None and self._response.framing is _CLOSE

    def send_informational(self, status: int, headers: Headers) -> None:
        """Send an interim response; nothing to an HTTP/1.0 peer (RFC 9110 15.2)."""
        data = build_informational(status, headers)
        if self.request is not None and self.request.http_version == "1.1":
            self._write(data)

    def send_continue(self) -> None:
        """Ask for the content (RFC 9110 section 10.1.1), unless it is too late."""
        if self._response is None:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def send_response(
        self, status: int, headers: Headers, data: bytes, more: bool, keep_alive: bool
    ) -> None:
        """Send the head and the first part of the content in one write."""
        request = self.request
        assert request is not None
        lines = encode_head(status, headers)
        start, length, asks_close, own_fields = lines
        if (
            length == len(data) <= _JOIN_LIMIT
            and not (more or asks_close or own_fields)
            and request.method != "HEAD"
            and request.http_version == "1.1"
        ):
            # Nothing is left to decide below, and most responses are of this kind
            # (benchmark: http1_hello).
            self.request = None
            if not keep_alive:
                self.must_close = True
                start += _CLOSE_LINE
            self._write(b"".join((start, self._defaults.end, data)))
            return
        head = build_response_head(
            request, status, lines, None if more else len(data), self._defaults
        )
        if head.framing is _LENGTH and len(data) > head.remaining:
            raise _too_much(len(data), head.remaining)
        if head.close or not keep_alive:
            self.must_close = True
            head.data += _CLOSE_LINE
        elif request.http_version == "1.0":
            head.data += b"connection: keep-alive\r\n"
        content = _frame(head, data, more)
        if more:
            self._response = head
            head.waiting = []
            head.waiting_size = 0
            head.was_alone = False
            head.trust = 0
            head.turn_began = 0.0
            head.waits_until = self._timing.clock() + _SAME_TURN
        else:
            self.request = None
        if len(content) > _JOIN_LIMIT:
            self._write(head.data + head.end)
            self._write(content)
        else:
            self._write(b"".join((head.data, head.end, content)))

    def send_data(self, data: bytes, more: bool) -> None:
        """Send a further part of the content."""
        head = self._response
        assert head is not None
        if more and head.framing is _CHUNKED:
            # As ``_frame`` would have it: events are of this kind, and small.
            content = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        else:
            if head.framing is _LENGTH:
                _check_room(head, len(data), more)
            content = _frame(head, data, more)
        if not more:
            self.request = self._response = None
            if head.waiting:
                content = self._join_waiting(head, content)
        elif len(content) > _PART_LIMIT:
            # It shares no write, so it asks neither for the time nor for a turn's end
            # (benchmark: download).
            self.send_waiting()
        elif content:
            now = self._clock()
            if now < head.waits_until:
                if not head.trust:
                    self._hold(head, content, now)
                    return
                head.trust -= 1
            head.waits_until = now + _SAME_TURN
        if content:
            self._write(content)

    @property
    def sends_length(self) -> bool:
        """Whether the content is sent as it is, until its promised length."""
        head = self._response
        return head is not None and head.framing is _LENGTH and not head.waiting

    def skip_content(self, size: int) -> None:
        """Count a part of the content that was sent past this writer."""
        head = self._response
        assert head is not None
        _check_room(head, size, more=True)
        head.remaining -= size

    def send_waiting(self) -> None:
        """Send the parts that wait for the turn's end."""
        head = self._response
        if head is not None and head.waiting:
            self._write(_take_waiting(head))

    def drop(self) -> None:
        """Forget a response whose peer has gone."""
        head, self._response = self._response, None
        if head is not None:
            head.waiting = []

    def _hold(self, head: ResponseHead, content: bytes, now: float) -> None:
        """Let a part wait for the turn's end, for others to leave in the same write.

        It is sent at once if turns may be long at present.
        """
        if not head.turn_began:
            head.turn_began = now
            head.waits_until = _ALWAYS
            self._timing.call_soon(partial(self._end_turn, head))
        elif now - head.turn_began > _LONG_TURN:
            self._stop_holding(head, now)
        size = head.waiting_size + len(content)
        if size > _JOIN_LIMIT or not self._timing.are_short:
            self.send_waiting()
            self._write(content)
            return
        head.waiting.append(content)
        head.waiting_size = size

    def _join_waiting(self, head: ResponseHead, content: bytes) -> bytes:
        """Return the last part behind those that wait, which are sent if it is long."""
        waiting = _take_waiting(head)
        if len(content) <= _PART_LIMIT:
            return waiting + content
        self._write(waiting)
        return content

    def _stop_holding(self, head: ResponseHead, now: float) -> None:
        self._timing.turn_is_long(now)
        head.trust, head.waits_until = _TRUST, _NEVER

    def _end_turn(self, head: ResponseHead) -> None:
        now = self._clock()
        if now - head.turn_began > _LONG_TURN:
            self._stop_holding(head, now)
        else:
            self._timing.turn_was_short(now)
        head.turn_began = 0.0
        if not head.waiting:
            # They have left with the response's end, or for their size.
            return
        is_alone = len(head.waiting) == 1
        if is_alone and head.was_alone:
            head.trust = _TRUST
            head.waits_until = _NEVER
            is_alone = False
        head.was_alone = is_alone
        self._write(_take_waiting(head))

    def send_trailers(self, headers: Headers) -> None:
        """End the response; the fields go out if framing and peer allow them.

        RFC 9110 section 6.5.1: without ``TE: trailers`` they are better left out.
        """
        head, request = self._response, self.request
        assert head is not None
        assert request is not None
        data = build_trailers(headers)
        if head.framing is _CHUNKED and _takes_trailers(request):
            self.request = self._response = None
            self._write(_take_waiting(head) + data)
        else:
            self.send_data(b"", more=False)

    def send_refusal(self, error: ProtocolError) -> None:
        """Send the server's own answer to a request that is refused."""
        body = error.reason.encode("ascii", "backslashreplace") + b"\n"
        fields = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            *error.headers,
            (b"connection", b"close"),
        ]
        is_head = self.request is not None and self.request.method == "HEAD"
        self._send_plain(error.status, fields, b"" if is_head else body)

    def send_upgrade(self, headers: Headers) -> None:
        """Send 101 with the fields of the handshake (RFC 6455 section 4.2.2)."""
        fields = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket"), *headers]
        self._send_plain(101, fields, b"")

    def _send_plain(self, status: int, fields: Headers, body: bytes) -> None:
        data = build_informational(status, fields)[:-2]
        self._write(data + self._defaults.end + body)


def encode_head(status: int, headers: Headers) -> HeadLines:
    """Encode the application's part of a final response's head.

    Raises ApplicationError for a status, name, value or Content-Length that cannot be
    sent.
    """
    fields = tuple(headers)
    try:
        known = _known_heads.get((status, fields))
    except TypeError:
        # Pairs in lists, values in bytearrays.
        known = None
    return known or _encode_head(status, fields)


def _encode_head(status: int, fields: tuple[tuple[bytes, bytes], ...]) -> HeadLines:
    parts = [_STATUS_LINES.get(status) or _status_line(check_status(status))]
    length = -1
    asks_close = False
    own_fields: tuple[Field, ...] = ()
    has_content = repeats = status not in STATUSES_WITHOUT_CONTENT
    for pair in fields:
        try:
            known = get_known_line(pair)
        except TypeError:
            known = None
        if known is None:
            repeats = False
            known = encode_line(pair)
        line, field = known
        if field:
            if field is _CONTENT_LENGTH:
                length = parse_length(line[_LENGTH_START:-2], length)
                if status == 204 or status == 205:
                    # RFC 9110 section 8.6: never in a 204; a 205 gets its own.
                    continue
            elif field is Field.DATE or field is Field.SERVER:
                own_fields += (field,)
            elif field is not Field.UPGRADE:
                # RFC 9110 section 7.6.1: the connection's own fields are the server's;
                # an application may only ask for its end.
                asks_close |= field is Field.CONNECTION and _is_close(line)
                continue
        parts.append(line)
    if not has_content:
        length = -1
    lines = (b"".join(parts), length, asks_close, own_fields)
    if repeats:
        if len(_known_heads) >= _KNOWN_HEADS_LIMIT:
            _known_heads.clear()
        _known_heads[status, fields] = lines
    return lines


def _is_close(line: bytes) -> bool:
    """Return whether the line of a Connection field names ``close``."""
    return b"close" in split_list(line.partition(b":")[2][:-2])


def build_response_head(
    request: RequestHead,
    status: int,
    lines: HeadLines,
    whole_length: int | None,
    defaults: ResponseDefaults,
) -> ResponseHead:
    """Complete a final response's head and choose its framing.

    ``whole_length`` is the content's length if all of it is at hand, else None.
    Raises ApplicationError if the application's Content-Length contradicts the content.
    """
    head = ResponseHead()
    head.data, length, head.close, own_fields = lines
    head.end = defaults.end
    if Field.DATE in own_fields:
        head.end = head.end.replace(defaults.date, b"")
    if Field.SERVER in own_fields:
        head.end = head.end.replace(defaults.server, b"")
    _choose_framing(head, request, status, length, whole_length)
    if head.framing is _LENGTH:
        if length < 0:
            head.data += b"content-length: %d\r\n" % head.remaining
    elif status == 205:
        # RFC 9110 section 15.3.6: no content, and framed as having none.
        head.data += b"content-length: 0\r\n"
    elif head.framing is _CHUNKED:
        head.data += b"transfer-encoding: chunked\r\n"
    return head


def _choose_framing(
    head: ResponseHead,
    request: RequestHead,
    status: int,
    length: int,
    whole_length: int | None,
) -> None:
    if request.method == "HEAD" or status in STATUSES_WITHOUT_CONTENT:
        head.framing = _NONE
    elif length >= 0:
        if whole_length is not None and whole_length != length:
            raise ApplicationError(
                f"Content-Length is {length}, the content has {whole_length} bytes"
            )
        head.remaining = length
    elif whole_length is not None:
        head.remaining = whole_length
    elif request.http_version == "1.1":
        head.framing = _CHUNKED
    else:
        head.framing = _CLOSE
        head.close = True


def build_informational(status: int, headers: Headers) -> bytes:
    """Encode an interim response (RFC 9110 section 15.2), whole."""
    line = _STATUS_LINES.get(status) or _status_line(check_status(status))
    return line + encode_fields(headers) + b"\r\n"


def build_trailers(headers: Headers) -> bytes:
    """Encode the last chunk and a trailer section (RFC 9112 section 7.1.2)."""
    lines = [encode_line(pair) for pair in headers]
    for line, field in lines:
        if field is not Field.OTHER:
            raise ApplicationError(f"{line!r} is not allowed in a trailer section")
    return b"".join([b"0\r\n", *[line for line, _ in lines], b"\r\n"])


def _frame(head: ResponseHead, data: bytes, more: bool) -> bytes:
    """Return ``data`` as the framing wants it, and account for it."""
    framing = head.framing
    if framing is _CHUNKED and more and data:
        return b"%x\r\n%b\r\n" % (len(data), data)
    if framing is _LENGTH:
        head.remaining -= len(data)
        return data
    if framing is _NONE:
        return b""
    if framing is _CLOSE:
        return data
    if data:
        return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
    return b"" if more else b"0\r\n\r\n"


def _take_waiting(head: ResponseHead) -> bytes:
    data = b"".join(head.waiting)
    head.waiting.clear()
    head.waiting_size = 0
    return data


def _check_room(head: ResponseHead, size: int, more: bool) -> None:
    """Raise ApplicationError for content that is not of the promised length."""
    left = head.remaining - size
    if left < 0:
        raise _too_much(size, head.remaining)
    if left and not more:
        raise ApplicationError(
            f"The response ends {left} bytes short of its Content-Length"
        )


def _too_much(size: int, room: int) -> ApplicationError:
    return ApplicationError(
        f"{size} bytes of content, but the Content-Length leaves room for {room}"
    )


def _takes_trailers(request: RequestHead) -> bool:
    return any(
        name == b"te" and b"trailers" in split_list(value)
        for name, value in request.headers
    )
