"""HTTP/1.1 requests, right ones and the known ways to get them wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

TOKENS = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n\n",
    b"\r\r\n",
    b"\0",
    b" ",
    b"\t",
    b"\x0b",
    b"\x0c",
    b"\x1c",
    b"\x85",
    b"\xa0",
    b"\xff",
    b":",
    b" :",
    b",",
    b";",
    b"0",
    b"-1",
    b"+5",
    b"0x5",
    b"5_0",
    b"00000000000000000005",
    b"18446744073709551621",
    b"ffffffffffffffff",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"5 ;a=b\r\nhello\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 5, 5\r\n",
    b"Content-Length : 5\r\n",
    b"Content_Length: 5\r\n",
    b"Content-Length: \r\n",
    b"Content-Length:\t5\t\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"Transfer-Encoding\r\n : chunked\r\n",
    b"Transfer-Encoding: chunked\r\n\tx\r\n",
    b"Host: b\r\n",
    b"Host: b@c\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"Expect: x\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"HTTP/0.9",
    b"HTTP/2.0",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://b/x HTTP/1.1\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    b"A" * 300,
    b"X: y\r\n" * 15,
]
"""Pieces in which framing has been got wrong before (CWE-444), and other surprises."""

KEY = b"MDEyMzQ1Njc4OWFiY2RlZg=="

_METHODS = (b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"DELETE")
_TARGETS = (b"/", b"/a?b=c", b"/%00%ff", b"*", b"http://a/x?y", b"//b", b"/a#b")
_FIELDS = (
    b"Accept: */*",
    b"TE: trailers",
    b"Cookie: a=b; c=d",
    b"X-Empty:",
    b"X_Y: z",
    b"Connection: close",
    b"Connection: keep-alive",
    b"X-Long: " + b"v" * 150,
)


def build_requests(rng: random.Random) -> bytes:
    """Return a few requests, one after the other, as a client would pipeline them."""
    if rng.random() < 0.02:
        # More than the server is willing to keep ahead of its turn.
        return build_request(rng) * (80_000 // 60)
    return b"".join(build_request(rng) for _ in range(rng.randrange(1, 6)))


def build_request(rng: random.Random) -> bytes:
    """Return one request, sound unless mutated later."""
    method, target = rng.choice(_METHODS), b"/%d" % rng.randrange(10)
    if rng.random() < 0.2:
        target = rng.choice(_TARGETS)
    version = b"HTTP/1.0" if rng.random() < 0.1 else b"HTTP/1.1"
    fields = [b"Host: a"]
    fields += [rng.choice(_FIELDS) for _ in range(rng.choice((0, 0, 1, 3)))]
    body = b""
    if method in (b"POST", b"PUT") or rng.random() < 0.05:
        framing, body = _build_content(rng)
        fields.append(framing)
        if rng.random() < 0.2:
            fields.append(b"Expect: 100-continue")
    rng.shuffle(fields)
    line = b" ".join((method, target, version))
    return b"\r\n".join([line, *fields, b"", b""]) + body


def build_handshake(rng: random.Random) -> bytes:
    """Return the opening handshake of a WebSocket."""
    fields = [
        b"Host: a",
        b"Connection: keep-alive, Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + KEY,
    ]
    if rng.random() < 0.6:
        bits = rng.choice((b"", b"; client_max_window_bits", b"; foo=bar, , x;y=1"))
        fields.append(b"Sec-WebSocket-Extensions: permessage-deflate" + bits)
    if rng.random() < 0.4:
        fields.append(b"Sec-WebSocket-Protocol: chat, superchat")
    if rng.random() < 0.4:
        fields.append(b"Origin: http://a")
    rng.shuffle(fields)
    return b"\r\n".join([b"GET /ws HTTP/1.1", *fields, b"", b""])


def _build_content(rng: random.Random) -> tuple[bytes, bytes]:
    size = rng.choice((0, 1, 5, 100, 100, 5000, 5000, 150_000))
    content = rng.choice((b"x", b"\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n"))
    content = (content * size)[:size]
    if rng.random() < 0.5:
        return b"Content-Length: %d" % size, content
    chunks: list[bytes] = []
    while content:
        length = rng.randrange(1, len(content) + 1) if len(chunks) < 9 else len(content)
        extension = rng.choice((b"", b"", b";a", b';a="b"'))
        chunks.append(b"%x%b\r\n%b\r\n" % (length, extension, content[:length]))
        content = content[length:]
    trailers = rng.choice((b"", b"", b"X-Sum: 1\r\n"))
    return b"Transfer-Encoding: chunked", b"".join(chunks) + b"0\r\n" + trailers + (
        b"\r\n"
    )
