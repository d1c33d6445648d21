"""The response's side of an HTTP/1.1 connection: heads, content, trailers, refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djserve.errors import ApplicationError
from djserve.protocols.headers import split_list
from djserve.protocols.http1.response import (
    Framing,
    ResponseDefaults,
    ResponseHead,
    build_informational,
    build_response_head,
    build_trailers,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djserve.errors import ProtocolError
    from djserve.interfaces import (
        ConnectionInfo,
        ConnectionOwner,
        Exchange,
        Headers,
        RequestHead,
        Transport,
    )

# Above this, joining head and content costs more than a second write.
_JOIN_LIMIT = 64 * 1024

# As in response.py.
_NONE, _LENGTH, _CHUNKED, _CLOSE = Framing

_EXTENSIONS: dict[str, dict[str, Any]] = {
    "http.response.early_hint": {},
    "http.response.trailers": {},
    "http.response.pathsend": {},
    "http.response.zerocopysend": {},
}
# HTTP/1.0 knows neither interim responses nor chunks.
_EXTENSIONS_1_0 = {
    name: value
    for name, value in _EXTENSIONS.items()
    if name not in ("http.response.early_hint", "http.response.trailers")
}


class HTTP1Stream:
    """Write one response after the other, each in the framing that fits it."""

    __slots__ = (
        "_awaits_continue",
        "_defaults",
        "_exchange",
        "_head",
        "_info",
        "_is_draining",
        "_is_reading_paused",
        "_keep_alive",
        "_owner",
        "_response",
        "_transport",
        "_write",
        "is_lingering",
        "is_writable",
        "mark",
    )

    def __init__(
        self,
        transport: Transport,
        info: ConnectionInfo,
        owner: ConnectionOwner,
        defaults: ResponseDefaults,
    ) -> None:
        self._transport = transport
        self._write = transport.write
        self._info = info
        self._owner = owner
        self._defaults = defaults
        self._exchange: Exchange | None = None
        self._head: RequestHead | None = None
        self._response: ResponseHead | None = None
        self._keep_alive = True
        self._is_draining = False
        self._awaits_continue = False
        self._is_reading_paused = False
        # Only the peer's last bytes are waited for, to drop them.
        self.is_lingering = False
        self.is_writable = True
        # Counts the changes of what the connection waits for; the timeouts compare it,
        # so that no change has to read a clock.
        self.mark = 0

    @property
    def extensions(self) -> Mapping[str, dict[str, Any]]:
        """The ASGI extensions that work on this connection."""
        head = self._head
        return _EXTENSIONS if head and head.http_version == "1.1" else _EXTENSIONS_1_0

    def send_informational(self, status: int, headers: Headers) -> None:
        """Send an interim response; nothing to an HTTP/1.0 peer (RFC 9110 15.2)."""
        data = build_informational(status, headers)
        if self._head is not None and self._head.http_version == "1.1":
            self._write(data)

    def send_response(
        self, status: int, headers: Headers, data: bytes, more: bool
    ) -> None:
        """Send the head and the first part of the content in one write."""
        request = self._head
        assert request is not None
        head = build_response_head(
            request, status, headers, None if more else len(data), self._defaults
        )
        # Whether content follows a final response that came without "100 Continue" is
        # the client's to choose, so that nothing after it has a sure beginning.
        head.close |= not self._keep_alive or self._awaits_continue
        if head.framing is _LENGTH and len(data) > head.remaining:
            raise _too_much(len(data), head.remaining)
        if head.close:
            head.data += b"connection: close\r\n"
        elif request.http_version == "1.0":
            head.data += b"connection: keep-alive\r\n"
        content = self._frame(head, data, more)
        self._response = head
        if len(content) > _JOIN_LIMIT:
            self._write(head.data + head.end)
            self._write(content)
        else:
            self._write(b"".join((head.data, head.end, content)))
        if not more:
            self._response_ended(head.close)

    def send_data(self, data: bytes, more: bool) -> None:
        """Send a further part of the content."""
        head = self._response
        assert head is not None
        if head.framing is _LENGTH:
            left = head.remaining - len(data)
            if left < 0:
                raise _too_much(len(data), head.remaining)
            if left and not more:
                raise ApplicationError(
                    f"The response ends {left} bytes short of its Content-Length"
                )
        content = self._frame(head, data, more)
        if content:
            self._write(content)
        if not more:
            self._response_ended(head.close or not self._keep_alive)

    def send_trailers(self, headers: Headers) -> None:
        """End the response; the fields go out where framing and peer allow them.

        RFC 9110 section 6.5.1: without ``TE: trailers`` they are better left out.
        """
        head, request = self._response, self._head
        assert head is not None
        assert request is not None
        data = build_trailers(headers)
        if head.framing is _CHUNKED and _takes_trailers(request):
            self._write(data)
            self._response_ended(head.close or not self._keep_alive)
        else:
            self.send_data(b"", more=False)

    def push(self, path: str, headers: Headers) -> None:
        raise ApplicationError("HTTP/1.1 has no server push")

    def abort(self) -> None:
        """Break off the response: the peer sees that it is not complete."""
        head = self._response
        if head is not None and head.framing is _CLOSE:
            # A regular end would look like the content's end (RFC 9112 section 8).
            self._owner.reset_transport(self._transport)
        else:
            self._transport.close()

    def get_write_buffer_size(self) -> int:
        """Return the bytes that the transport has not yet sent."""
        return self._transport.get_write_buffer_size()

    def request_content(self) -> None:
        """Answer Expect: 100-continue, once the application reads (RFC 9110 10.1.1)."""
        if self._awaits_continue:
            self._awaits_continue = False
            self.mark += 1
            if self._response is None:
                self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def pause_reading(self) -> None:
        """Deliver no more content for now."""
        if not self._is_reading_paused:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Deliver content again."""
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._transport.resume_reading()

    def abort_transport(self) -> None:
        """Drop the connection, with what is buffered."""
        self._owner.reset_transport(self._transport)

    def close(self) -> None:
        """Close the transport after what is buffered; take nothing more."""
        self.is_lingering = True
        self._transport.close()

    @property
    def has_input(self) -> bool:
        """Whether the peer has sent what has not come up yet."""
        return self._owner.has_input(self._transport)

    def end(self) -> None:
        """Close between requests; on the server's own accord only our side at first.

        What the peer sends until it sees that is dropped. At a full close a reset would
        answer it, and might destroy what the peer has yet to read (RFC 9112 section
        9.6). A transport of TLS cannot end one side alone: it closes, and on uvloop it
        waits for the peer's end by itself.
        """
        if self._is_draining and self._transport.can_write_eof():
            self._end_sending()
        else:
            self.close()

    def _end_sending(self) -> None:
        """Say that nothing more comes; over TLS, the response alone has to say it.

        To close there would answer what is on its way to us with a reset, and the peer
        might never read the response.
        """
        self.is_lingering = True
        self.mark += 1
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self.resume_reading()

    def _frame(self, head: ResponseHead, data: bytes, more: bool) -> bytes:
        """Return ``data`` as the framing wants it, and account for it."""
        framing = head.framing
        if framing is _LENGTH:
            head.remaining -= len(data)
            return data
        if framing is _NONE:
            return b""
        if framing is _CLOSE:
            return data
        if not data:
            return b"" if more else b"0\r\n\r\n"
        end = b"\r\n" if more else b"\r\n0\r\n\r\n"
        return b"".join((b"%x\r\n" % len(data), data, end))

    def _begin_response(self, head: RequestHead, keep_alive: bool) -> None:
        self._head = head
        self._response = None
        self._keep_alive = keep_alive and not self._is_draining
        self._awaits_continue = False

    def _response_ended(self, close: bool) -> None:
        raise NotImplementedError

    def _write_refusal(self, error: ProtocolError) -> None:
        """Write the server's own answer to a request that is refused."""
        body = error.reason.encode("ascii", "backslashreplace") + b"\n"
        fields = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            *error.headers,
            (b"connection", b"close"),
        ]
        data = build_informational(error.status, fields)[:-2]
        is_head = self._head is not None and self._head.method == "HEAD"
        self._write(
            data + self._defaults.date_and_server + b"\r\n" + (b"" if is_head else body)
        )

    def _write_upgrade(self, headers: Headers) -> None:
        """Write 101 with the fields of the handshake (RFC 6455 section 4.2.2)."""
        fields = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket"), *headers]
        data = build_informational(101, fields)[:-2]
        self._write(data + self._defaults.date_and_server + b"\r\n")


def _too_much(size: int, room: int) -> ApplicationError:
    return ApplicationError(
        f"{size} bytes of content where the Content-Length has room for {room}"
    )


def _takes_trailers(request: RequestHead) -> bool:
    return any(
        name == b"te" and b"trailers" in split_list(value)
        for name, value in request.headers
    )
