"""Small HTTP/2 requests beside a large transfer, all on one connection over TLS.

The client reads and writes frames by itself: what a library costs for each frame would
count as the server's. The small ones are spread over the transfer by the bytes that
have passed, whether those before have been answered or not.

As a program it prints one figure, or with ``--figure all`` all of them.
"""

from __future__ import annotations

import argparse
import select
import socket
import ssl
import statistics
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from hpack import Decoder, Encoder

MIB = 1024 * 1024
SMALL_COUNT = 100
TIMEOUT = 120.0

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4

FRAME_SIZE = 16384
PIECE = bytes(FRAME_SIZE)

# As large as a browser's or curl's, so that the client's windows do not set the pace.
WINDOW = 16 * MIB
DEFAULT_WINDOW = 65535
# What waits in the client's own socket would count as the server's delay.
UNSENT_LIMIT = 64 * 1024

BIG_STREAM = 1


class MixedError(Exception):
    """The server did not answer as it should."""


@dataclass(frozen=True, slots=True)
class Figures:
    """``delays`` are the seconds from each small request to its response's end."""

    size: int
    seconds: float
    delays: list[float]

    @property
    def rate(self) -> float:
        return self.size / MIB / self.seconds

    @property
    def p50(self) -> float:
        return statistics.median(self.delays) * 1000

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.delays, n=100, method="inclusive")[98] * 1000


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return (
        struct.pack(
            ">BHBBL", len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream
        )
        + payload
    )


def connect(port: int) -> ssl.SSLSocket:
    """Return a connection that speaks h2 and never blocks."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    raw = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_LIMIT)
    sock = context.wrap_socket(raw, server_hostname="localhost")
    if sock.selected_alpn_protocol() != "h2":
        raise MixedError("the server did not choose HTTP/2")
    sock.setblocking(False)
    return sock


class MixedClient:
    """One connection with one large transfer and small requests beside it.

    ``upload`` is what the large request sends, ``download`` what it asks for, in bytes.
    """

    def __init__(self, sock: ssl.SSLSocket, upload: int, download: int) -> None:
        self._sock = sock
        self._upload_left = upload
        self._download = download
        self._size = upload or download
        self._passed = 0
        self._encoder = Encoder()
        self._decoder = Decoder()
        self._out = bytearray()
        self._rest = b""
        self._unacknowledged = 0
        self._skip = 0
        self._skip_ends = 0
        self._connection_window = self._stream_window = DEFAULT_WINDOW
        self._next_stream = BIG_STREAM
        self._asked: dict[int, float] = {}
        self._is_big_done = False
        self.delays: list[float] = []

    def run(self) -> Figures:
        """Make the transfer and the small requests; return when all have ended."""
        self._greet()
        self._ask("POST" if self._upload_left else "GET")
        begun = time.perf_counter()
        ended = 0.0
        while not ended or self._asked:
            self._ask_small()
            self._fill()
            self._wait()
            self._send()
            self._receive()
            if self._is_big_done and not ended:
                ended = time.perf_counter()
        if len(self.delays) != SMALL_COUNT:
            raise MixedError(f"{len(self.delays)} small requests were answered")
        return Figures(self._size, ended - begun, self.delays)

    def _greet(self) -> None:
        self._out += b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        self._out += frame(
            SETTINGS, 0, 0, struct.pack(">HL", INITIAL_WINDOW_SIZE, WINDOW)
        )
        self._open_window(0, WINDOW - DEFAULT_WINDOW)

    def _ask(self, method: str) -> int:
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        is_big = stream == BIG_STREAM
        count = self._download // MIB if is_big else 0
        block = self._encoder.encode(
            [
                (":method", method),
                (":scheme", "https"),
                (":authority", "localhost"),
                (":path", f"/?{count}" if count else "/"),
            ]
        )
        flags = END_HEADERS | (0 if method == "POST" else END_STREAM)
        self._out += frame(HEADERS, flags, stream, block)
        return stream

    def _ask_small(self) -> None:
        """Ask for the next small one when it is its time."""
        asked = (self._next_stream - BIG_STREAM - 2) // 2
        if asked >= SMALL_COUNT:
            return
        if self._passed * (SMALL_COUNT + 1) >= self._size * (asked + 1):
            self._asked[self._ask("GET")] = time.perf_counter()

    def _fill(self) -> None:
        """Put the upload's next frame behind what waits, if the windows allow it."""
        size = min(
            self._upload_left, FRAME_SIZE, self._stream_window, self._connection_window
        )
        if len(self._out) >= FRAME_SIZE or size <= 0:
            return
        self._upload_left -= size
        self._passed += size
        self._stream_window -= size
        self._connection_window -= size
        flags = 0 if self._upload_left else END_STREAM
        self._out += frame(DATA, flags, BIG_STREAM, PIECE[:size])

    def _wait(self) -> None:
        if self._sock.pending():
            return
        writers = [self._sock] if self._out else []
        if not any(select.select([self._sock], writers, [], TIMEOUT)):
            raise MixedError("the server fell silent")

    def _send(self) -> None:
        try:
            while self._out:
                del self._out[: self._sock.send(self._out)]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return

    def _receive(self) -> None:
        try:
            data = self._sock.recv(65536)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        if not data:
            raise MixedError("the server closed the connection")
        self._take(data)

    def _take(self, data: bytes) -> None:
        position, end = 0, len(data)
        if self._rest:
            data = self._rest + data
            end = len(data)
            self._rest = b""
        while position < end:
            if self._skip:
                step = min(self._skip, end - position)
                position += step
                self._skip -= step
                if not self._skip and self._skip_ends:
                    self._end(self._skip_ends)
                continue
            if end - position < 9:
                break
            high, low, kind, flags, stream = struct.unpack_from(
                ">BHBBL", data, position
            )
            length = high << 16 | low
            if kind == DATA:
                position += 9
                self._take_data(length, flags, stream)
            elif end - position < 9 + length:
                break
            else:
                payload = data[position + 9 : position + 9 + length]
                position += 9 + length
                self._take_frame(kind, flags, stream, payload)
        self._rest = data[position:]

    def _take_data(self, length: int, flags: int, stream: int) -> None:
        is_last = bool(flags & END_STREAM)
        self._skip, self._skip_ends = length, stream if is_last else 0
        if not length and is_last:
            self._end(stream)
        self._unacknowledged += length
        if stream == BIG_STREAM and self._download:
            self._passed += length
        if self._unacknowledged >= WINDOW // 4:
            # Nearly all is the large one's: what is granted too much does no harm.
            self._open_window(0, self._unacknowledged)
            if not self._is_big_done:
                self._open_window(BIG_STREAM, self._unacknowledged)
            self._unacknowledged = 0

    def _take_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == HEADERS:
            fields = self._decoder.decode(payload, raw=True)
            if (b":status", b"200") not in [*fields]:
                raise MixedError(f"stream {stream} was answered with {fields!r:.200}")
            if flags & END_STREAM:
                self._end(stream)
        elif kind == SETTINGS and not flags & ACK:
            self._take_settings(payload)
        elif kind == PING and not flags & ACK:
            self._out += frame(PING, ACK, 0, payload)
        elif kind == WINDOW_UPDATE:
            self._take_credit(stream, struct.unpack(">L", payload)[0])
        elif kind in (RESET, GOAWAY):
            raise MixedError(f"the server ended stream {stream}: {payload!r}")

    def _take_settings(self, payload: bytes) -> None:
        for key, value in struct.iter_unpack(">HL", payload):
            if key == INITIAL_WINDOW_SIZE:
                self._stream_window += value - DEFAULT_WINDOW
        self._out += frame(SETTINGS, ACK, 0)

    def _take_credit(self, stream: int, credit: int) -> None:
        if not stream:
            self._connection_window += credit
        elif stream == BIG_STREAM:
            self._stream_window += credit

    def _open_window(self, stream: int, credit: int) -> None:
        self._out += frame(WINDOW_UPDATE, 0, stream, struct.pack(">L", credit))

    def _end(self, stream: int) -> None:
        self._skip_ends = 0
        if stream == BIG_STREAM:
            if self._upload_left:
                raise MixedError("the upload was answered before it was complete")
            self._is_big_done = True
        else:
            self.delays.append(time.perf_counter() - self._asked.pop(stream))


def transfer(port: int, *, upload: int = 0, download: int = 0) -> Figures:
    """Make one large transfer beside small requests. Raises MixedError."""
    with connect(port) as sock:
        return MixedClient(sock, upload, download).run()


FIGURES: dict[str, Callable[[Figures], str]] = {
    "rate": lambda figures: f"{figures.rate:.2f}",
    "p50": lambda figures: f"{figures.p50:.3f}",
    "p99": lambda figures: f"{figures.p99:.3f}",
    "all": lambda figures: (
        f"{figures.rate:.0f} MiB/s, small ones p50 {figures.p50:.1f} ms, "
        f"p99 {figures.p99:.1f} ms, longest {max(figures.delays) * 1000:.1f} ms"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--direction", choices=("download", "upload"), required=True)
    parser.add_argument("--size", type=int, default=1024, help="MiB")
    parser.add_argument("--figure", choices=FIGURES, default="all")
    options = parser.parse_args()
    size = options.size * MIB
    print(FIGURES[options.figure](transfer(options.port, **{options.direction: size})))


if __name__ == "__main__":
    main()
