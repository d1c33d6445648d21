"""An HTTP/1.1 corpus: bytes, what must come of them, and where that is written.

Each case is a connection. What the client sends is followed by a request for /end, so
that what was misread shows: as a second answer, or as none.
"""

from __future__ import annotations

from dataclasses import dataclass

END = b"GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """``statuses`` are those of the responses to ``data``, before the one to END.

    ``is_kept`` says whether the connection goes on to answer END.
    """

    name: str
    section: str
    data: bytes
    statuses: tuple[int, ...] = (200,)
    is_kept: bool = True

    @property
    def sent(self) -> bytes:
        """All that the client sends: nothing after it has asked for the end."""
        has_ended = not self.is_kept and self.statuses[-1] < 400
        return self.data if has_ended else self.data + END


def ask(
    name: str,
    section: str,
    *fields: bytes,
    line: bytes = b"GET / HTTP/1.1",
    host: bytes | None = b"Host: a",
    content: bytes = b"",
    status: int = 200,
    is_kept: bool = True,
) -> Case:
    """Return the case of one request; an error's connection is not kept."""
    lines = [line, *([] if host is None else [host]), *fields, b"", b""]
    data = b"\r\n".join(lines) + content
    return Case(name, section, data, (status,), is_kept and status < 400)


POST = b"POST / HTTP/1.1"
CHUNKED = b"Transfer-Encoding: chunked"


def chunked(name: str, content: bytes, status: int = 200) -> Case:
    return ask(name, "9112 7.1", CHUNKED, line=POST, content=content, status=status)


CASES = (
    # RFC 9112 section 2: message format.
    ask("plain request", "9112 2.1"),
    Case(
        "empty line before a request",
        "9112 2.2",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    Case(
        "bare LF at the end of lines",
        "9112 2.2",
        b"GET / HTTP/1.1\nHost: a\n\n",
        (400,),
        False,
    ),
    ask("bare CR in a value", "9112 2.2", b"X: a\rb", status=400),
    ask("bare LF between fields", "9112 2.2", b"X: a\nY: b", status=400),
    Case(
        "white space before the first field",
        "9112 2.2",
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        (400,),
        False,
    ),
    ask("version without a minor", "9112 2.3", line=b"GET / HTTP/1", status=400),
    ask("version of another protocol", "9112 2.3", line=b"GET / HTTPS/1.1", status=400),
    ask("version in small letters", "9112 2.3", line=b"GET / http/1.1", status=400),
    ask("higher minor version", "9112 2.3", line=b"GET / HTTP/1.2", status=400),
    # Section 3: request line.
    ask("no version", "9112 3", line=b"GET /", status=400),
    ask("two blanks after the method", "9112 3", line=b"GET  / HTTP/1.1", status=400),
    ask("two blanks before the version", "9112 3", line=b"GET /  HTTP/1.1", status=400),
    ask("blank at the end of the line", "9112 3", line=b"GET / HTTP/1.1 ", status=400),
    ask("tab instead of a blank", "9112 3", line=b"GET\t/ HTTP/1.1", status=400),
    ask("blank within the target", "9112 3.2", line=b"GET /a b HTTP/1.1", status=400),
    ask(
        "control byte in the target", "9112 3.2", line=b"GET /\x01 HTTP/1.1", status=400
    ),
    ask("NUL in the target", "9112 3.2", line=b"GET /\x00 HTTP/1.1", status=400),
    ask("fragment in the target", "9112 3.2", line=b"GET /#a HTTP/1.1", status=400),
    ask("UTF-8 in the target", "9112 3.2", line=b"GET /\xc3\xa9 HTTP/1.1"),
    ask("Latin-1 in the target", "9112 3.2", line=b"GET /\xe9 HTTP/1.1", status=400),
    ask("target without a slash", "9112 3.2.1", line=b"GET a HTTP/1.1", status=400),
    ask("absolute-form", "9112 3.2.2", line=b"GET http://b/c?d HTTP/1.1"),
    ask("absolute-form without a path", "9112 3.2.2", line=b"GET http://b HTTP/1.1"),
    ask(
        "absolute-form with user",
        "9110 4.2.4",
        line=b"GET http://u@b/ HTTP/1.1",
        status=400,
    ),
    ask(
        "absolute-form without host",
        "9110 4.2.1",
        line=b"GET http:///a HTTP/1.1",
        status=400,
    ),
    ask(
        "absolute-form of FTP", "9112 3.2.2", line=b"GET ftp://b/ HTTP/1.1", status=400
    ),
    ask("CONNECT", "9110 9.3.6", line=b"CONNECT a:80 HTTP/1.1", status=501),
    ask("CONNECT with a path", "9112 3.2.3", line=b"CONNECT /x HTTP/1.1", status=501),
    ask("asterisk-form of OPTIONS", "9112 3.2.4", line=b"OPTIONS * HTTP/1.1"),
    ask("asterisk-form of GET", "9112 3.2.4", line=b"GET * HTTP/1.1", status=400),
    # RFC 9110 section 9: methods.
    *(
        ask(f"method {name}", "9110 9.1", line=name.encode() + b" / HTTP/1.1")
        for name in (
            "DELETE",
            "OPTIONS",
            "PATCH",
            "TRACE",
            "PROPFIND",
            "LABEL",
            "QUERY",
        )
    ),
    ask("method of the application", "9110 9.1", line=b"FOO / HTTP/1.1"),
    ask("method in small letters", "9110 9.1", line=b"get / HTTP/1.1", status=501),
    ask("method that is no token", "9110 9.1", line=b"G{T / HTTP/1.1", status=400),
    # RFC 9112 section 3.2 and RFC 9110 section 7.2: Host.
    ask("no Host", "9112 3.2", host=None, status=400),
    ask("two Hosts", "9112 3.2", b"Host: a", status=400),
    ask("Host and another", "9112 3.2", b"Host: b", status=400),
    ask("empty Host", "9110 4.2.1", host=b"Host:", status=400),
    ask("Host with a path", "9112 3.2", host=b"Host: a/b", status=400),
    ask("Host with a user", "9112 3.2", host=b"Host: u@a", status=400),
    ask("Host with a bad port", "9112 3.2", host=b"Host: a:x", status=400),
    ask("Host of IPv6", "9110 7.2", host=b"Host: [::1]:80"),
    ask("Host list", "9112 3.2", host=b"Host: a, b", status=400),
    ask(
        "HTTP/1.0 without Host",
        "9112 3.2",
        line=b"GET / HTTP/1.0",
        host=None,
        is_kept=False,
    ),
    # Section 5: fields.
    ask("blank before the colon", "9112 5.1", b"X : a", status=400),
    ask("tab before the colon", "9112 5.1", b"X\t: a", status=400),
    ask("no colon", "9112 5", b"X", status=400),
    ask("empty name", "9110 5.1", b": a", status=400),
    ask("name that is no token", "9110 5.1", b"X(Y: a", status=400),
    ask("name beyond ASCII", "9110 5.1", b"X\xe9: a", status=400),
    ask("blanks around a value", "9112 5.1", b"X: \t a \t "),
    ask("empty value", "9110 5.5", b"X:"),
    ask("value beyond ASCII", "9110 5.5", b"X: \xe9"),
    ask("NUL in a value", "9110 5.5", b"X: a\x00b", status=400),
    ask("control byte in a value", "9110 5.5", b"X: a\x1bb", status=400),
    ask("DEL in a value", "9110 5.5", b"X: a\x7f", status=400),
    ask("folded line", "9112 5.2", b"X: a", b" b", status=400),
    ask("201 fields", "9110 5.4", *([b"X: a"] * 200), status=431),
    ask("200 fields", "9110 5.4", *([b"X: a"] * 199)),
    ask("line of 16 KiB", "9112 3", line=b"GET /" + b"a" * 16_370 + b" HTTP/1.1"),
    ask(
        "line over 16 KiB",
        "9112 3",
        line=b"GET /" + b"a" * 16_371 + b" HTTP/1.1",
        status=414,
    ),
    # Section 6: content.
    ask("length", "9112 6.2", b"Content-Length: 3", line=POST, content=b"abc"),
    ask("length of nothing", "9112 6.2", b"Content-Length: 0", line=POST),
    ask("content of a GET", "9110 9.3.1", b"Content-Length: 3", content=b"abc"),
    *(
        ask(
            f"length {value!r}",
            "9112 6.3",
            b"Content-Length: " + value,
            line=POST,
            status=400,
        )
        for value in (
            b"",
            b"+1",
            b"-1",
            b"0x1",
            b"1_0",
            b"1 1",
            b"1.0",
            b"1, 1",
            b"9" * 30,
        )
    ),
    ask(
        "two equal lengths",
        "9112 6.3",
        b"Content-Length: 1",
        b"Content-Length: 1",
        line=POST,
        status=400,
    ),
    ask(
        "two lengths",
        "9112 6.3",
        b"Content-Length: 0",
        b"Content-Length: 50",
        line=POST,
        status=400,
    ),
    ask(
        "length and chunked",
        "9112 6.1",
        b"Content-Length: 5",
        CHUNKED,
        line=POST,
        content=b"0\r\n\r\n",
        status=400,
    ),
    ask(
        "chunked and length",
        "9112 6.1",
        CHUNKED,
        b"Content-Length: 5",
        line=POST,
        content=b"0\r\n\r\n",
        status=400,
    ),
    *(
        ask(
            f"coding {value!r}",
            "9112 6.1",
            b"Transfer-Encoding: " + value,
            line=POST,
            status=501,
        )
        for value in (b"foo", b"xchunked", b"identity", b"gzip, chunked")
    ),
    *(
        ask(
            f"coding {value!r}",
            "9112 6.3",
            b"Transfer-Encoding: " + value,
            line=POST,
            status=400,
        )
        for value in (
            b"",
            b"gzip",
            b"chunked, gzip",
            b"chunked, chunked",
            b"chunked;a",
            b'"chunked"',
            b"\x0bchunked",
        )
    ),
    ask(
        "tabs around chunked",
        "9112 6.1",
        b"Transfer-Encoding:\tchunked\t",
        line=POST,
        content=b"0\r\n\r\n",
    ),
    ask(
        "CHUNKED",
        "9112 7",
        b"Transfer-Encoding: CHUNKED",
        line=POST,
        content=b"0\r\n\r\n",
    ),
    ask(
        "chunked in HTTP/1.0",
        "9112 6.1",
        CHUNKED,
        line=b"POST / HTTP/1.0",
        content=b"0\r\n\r\n",
        status=400,
    ),
    # Section 7.1: chunks.
    chunked("chunks", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
    chunked("chunk size in capitals and with zeros", b"00A\r\n0123456789\r\n0\r\n\r\n"),
    chunked("chunk extension", b'3;a=b;c="d"\r\nabc\r\n0\r\n\r\n'),
    chunked("trailers", b"0\r\nX: a\r\n\r\n"),
    chunked("trailer that looks like framing", b"0\r\nContent-Length: 50\r\n\r\n"),
    *(
        chunked(f"chunk line {line!r}", line + b"\r\nabc\r\n0\r\n\r\n", 400)
        for line in (
            b"",
            b" 3",
            b"+3",
            b"-3",
            b"0x3",
            b"3_",
            b"g",
            b"3\n",
            b"3 3",
            b"f" * 17,
        )
    ),
    chunked("chunk ended by LF", b"3\r\nabc\n0\r\n\r\n", 400),
    chunked("chunk longer than its size", b"3\r\nabcd\r\n0\r\n\r\n", 400),
    chunked("chunk line ended by LF", b"3\nabc\r\n0\r\n\r\n", 400),
    chunked("bare CR in a chunk extension", b"3;a\rb\r\nabc\r\n0\r\n\r\n", 400),
    chunked("malformed trailer", b"0\r\nX : a\r\n\r\n", 400),
    # Section 9: connections.
    ask("close", "9112 9.6", b"Connection: close", is_kept=False),
    ask("close in a list", "9112 9.6", b"Connection: x, CLOSE", is_kept=False),
    ask("HTTP/1.0", "9112 9.3", line=b"GET / HTTP/1.0", is_kept=False),
    ask(
        "HTTP/1.0, kept", "9112 9.3", b"Connection: keep-alive", line=b"GET / HTTP/1.0"
    ),
    Case(
        "pipeline", "9112 9.3.2", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3, (200,) * 3
    ),
    Case(
        "request in the content of another",
        "9112 11.2",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(END) + END,
    ),
    Case(
        "request after chunked content",
        "9112 11.2",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        (200, 200),
    ),
    # RFC 9110 section 10.1.1 and 7.8.
    ask("expectation that is unknown", "9110 10.1.1", b"Expect: x", status=417),
    ask("upgrade that is unknown", "9110 7.8", b"Connection: Upgrade", b"Upgrade: x"),
    ask(
        "upgrade to h2c",
        "9113 3.1",
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABk",
    ),
    ask(
        "TLS on a cleartext port",
        "9112 3",
        line=b"\x16\x03\x01\x02\x00\x01",
        status=400,
    ),
)
