"""Clients made of bytes, which may do what no library lets them do."""

from __future__ import annotations

import socket
import struct
from typing import Any

import h2.config
import h2.connection
import h2.events

from tests.support.waiting import PATIENCE

# A masked text frame; a mask of zeros leaves the text as it is.
ONE = b"\x81\x81\0\0\0\x001"
CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"
HANDSHAKE = (
    b"Host: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nOrigin: http://127.0.0.1\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def ask_for_websocket(port: int, path: str = "/") -> socket.socket:
    """Return a connection on which a handshake has been sent."""
    sock = connect(port)
    sock.sendall(b"GET %s HTTP/1.1\r\n" % path.encode() + HANDSHAKE)
    return sock


def read_head(sock: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        assert byte, head
        head += byte
    return head


def open_websocket(port: int, path: str = "/") -> socket.socket:
    sock = ask_for_websocket(port, path)
    head = read_head(sock)
    assert head.startswith(b"HTTP/1.1 101 "), head
    return sock


def read_all(sock: socket.socket) -> bytes:
    """Return what comes until the connection ends, however it does."""
    data = b""
    try:
        while chunk := sock.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def end(sock: socket.socket, how: str) -> None:
    """End a connection by a "reset" or as usual."""
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    else:
        sock.shutdown(socket.SHUT_WR)
    sock.close()


class HTTP2Client:
    """Requests and WebSockets on one connection with prior knowledge."""

    def __init__(self, port: int) -> None:
        self.sock = connect(port)
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True)
        )
        self.events: list[Any] = []
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def ask(self, *headers: tuple[str, str], is_whole: bool = False) -> int:
        """Send a request's head; return its stream."""
        stream_id = self.h2.get_next_available_stream_id()
        given = dict(headers)
        fields = [(":scheme", "http"), (":authority", "a")]
        if ":path" not in given:
            fields.append((":path", "/"))
        self.h2.send_headers(stream_id, [*fields, *headers], end_stream=is_whole)
        self.flush()
        return stream_id

    def ask_for_websocket(self, path: str = "/") -> int:
        return self.ask(
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":path", path),
            ("sec-websocket-version", "13"),
        )

    def wait_for(self, stream_id: int, *kinds: Any) -> Any:
        """Return the first event of some kinds on a stream; keep the others."""
        while True:
            for event in self.events:
                if isinstance(event, kinds) and event.stream_id == stream_id:
                    self.events.remove(event)
                    return event
            data = self.sock.recv(65536)
            assert data, self.events
            self.events += self.h2.receive_data(data)
            self.flush()

    def open(self, *headers: tuple[str, str], is_whole: bool = False) -> int:
        """Send a request's head and wait for the response's; return the stream."""
        stream_id = self.ask(*headers, is_whole=is_whole)
        self.wait_for(stream_id, h2.events.ResponseReceived)
        return stream_id
