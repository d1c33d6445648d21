"""A client that sends a case's bytes, in any pieces, and counts the answers."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from tests.conformance.corpus import Case
from tests.support.waiting import PATIENCE


def run_case(port: int, case: Case, pieces: Iterable[bytes] | None = None) -> str:
    """Run a case against a server; return what is wrong, "" if nothing is."""
    statuses, content = exchange(port, pieces or [case.sent])
    expected = [*case.statuses, *([200] if case.is_kept else [])]
    if statuses != expected:
        return f"expected {expected}, got {statuses}"
    if case.is_kept is not (b"GET /end?" in content):
        return f"the request after it was misread: {content[:100]!r}"
    return ""


def exchange(
    port: int, pieces: Iterable[bytes], patience: float = PATIENCE
) -> tuple[list[int], bytes]:
    """Return the statuses of all responses, and the content of the last."""
    received = converse(port, pieces, patience)
    statuses: list[int] = []
    content = b""
    while received:
        status, content, received = take_response(received)
        if status >= 200:
            statuses.append(status)
    return statuses, content


def converse(port: int, pieces: Iterable[bytes], patience: float = PATIENCE) -> bytes:
    """Send bytes and return all that comes until the connection's end."""
    with socket.create_connection(("127.0.0.1", port), patience) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        try:
            for piece in pieces:
                sock.sendall(piece)
            while data := sock.recv(65536):
                received += data
        except (BrokenPipeError, ConnectionResetError):
            # A refusal may come before all is sent.
            pass
    return received


def take_response(data: bytes) -> tuple[int, bytes, bytes]:
    """Return the first response's status and content, and what follows it."""
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in lines[1:])
    status = int(lines[0][9:12])
    if status < 200:
        return status, b"", rest
    if fields.get(b"transfer-encoding") == b"chunked":
        return status, *take_chunks(rest)
    # Without a length the content ends with the connection.
    length = int(fields.get(b"content-length", len(rest)))
    return status, rest[:length], rest[length:]


def take_chunks(data: bytes) -> tuple[bytes, bytes]:
    """Return chunked content without trailers, and what follows it."""
    content = b""
    while True:
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        content, data = content + data[:size], data[size + 2 :]
        if not size:
            return content, data
