"""The raw-frame cases for RFC 9113 (tests/protocols/http2), over a real connection."""

from __future__ import annotations

import socket
import struct

from hpack import Decoder

from tests.protocols.http2 import cases
from tests.protocols.http2.conftest import Wire
from tests.support.waiting import PATIENCE

DATA, END_STREAM = 0x0, 0x1
HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0x1, 0x3, 0x4, 0x6, 0x7
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Not those that fill a window, which the application's reading opens again.
CASES = [case for case in cases.CASES if "'s window" not in case.name]


def run_case(port: int, case: cases.Case) -> str:
    """Send a case's frames and a last PING; return what is wrong, "" if nothing is."""
    expected = case.expected
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        wire = Wire()
        greeting = PREFACE + wire.frame(SETTINGS, 0, 0) + wire.frame(SETTINGS, 1, 0)
        ping = wire.frame(PING, 0, 0, b"the-end!")
        found: list[tuple[str, int]] = []
        try:
            if case.is_closed:
                sock.sendall(greeting + wire.headers(1))
                read_response(sock)
                greeting = b""
            sock.sendall(greeting + case.data(wire) + ping)
            found = read_outcomes(sock)
        except (BrokenPipeError, ConnectionResetError):
            pass
    if expected == ("status", 200):
        # The application answers in its own time, a fault before the PING's.
        return "" if not found or expected in found else f"got {found}"
    return "" if expected in found else f"expected {expected}, got {found}"


def read_response(sock: socket.socket) -> None:
    """Read up to the end of the response on stream 1."""
    received = b""
    while True:
        data = sock.recv(65536)
        assert data, "the connection has ended"
        received += data
        while len(received) >= 9:
            size = int.from_bytes(received[:3], "big")
            if len(received) < 9 + size:
                break
            if received[3] in (DATA, HEADERS) and received[4] & END_STREAM:
                return
            received = received[9 + size :]


def read_outcomes(sock: socket.socket) -> list[tuple[str, int]]:
    """Return the statuses, resets and the GOAWAY that come before the PING's answer."""
    outcomes: list[tuple[str, int]] = []
    decoder = Decoder()
    received = b""
    while data := sock.recv(65536):
        received += data
        while len(received) >= 9:
            size = int.from_bytes(received[:3], "big")
            if len(received) < 9 + size:
                break
            kind, payload = received[3], received[9 : 9 + size]
            flags, received = received[4], received[9 + size :]
            if kind == PING and flags & 1 and payload == b"the-end!":
                return outcomes
            if kind == HEADERS:
                outcomes.append(
                    ("status", int(dict(decoder.decode(payload, raw=True))[b":status"]))
                )
            elif kind == RST_STREAM:
                outcomes.append(("stream", struct.unpack("!I", payload)[0]))
            elif kind == GOAWAY:
                outcomes.append(("connection", struct.unpack("!I", payload[4:8])[0]))
    return outcomes
