"""Datagrams from one worker to another, by unix sockets in a folder of theirs.

The kernel chooses the worker that gets a datagram by the client's address, and may
choose another one when a worker comes or goes. A datagram of a connection that another
worker has is handed on to that one, whose name is what its connection ids begin with.
Nothing is handed on twice, and nothing waits: what a worker has no room for is lost, as
on any path.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

NAME_LENGTH = 2
"""Bytes of a connection id that name a worker."""

# Ends the name of a socket whose worker takes no new connections.
_RETIRED = "-"

_PART = struct.Struct("!HH")

# The kernel keeps few messages for a unix socket (10), however long they are.
_MESSAGE_SIZE = 65536


class Relay:
    """One worker's end. Raises OSError if the folder cannot be used.

    ``receive`` is called with the server's address, the datagram and the client's
    address. What is handed on goes out with ``flush``.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        folder: str,
        receive: Callable[[str, bytes, Any], None],
    ) -> None:
        self._loop = loop
        self._folder = folder
        self._receive = receive
        self._waiting: dict[str, bytearray] = {}
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        _make_room(self._sock)
        self.name = b""
        self._file = ""
        try:
            self._bind()
        except OSError:
            self._sock.close()
            raise
        loop.add_reader(self._sock.fileno(), self._read)

    def forward(self, name: bytes, server: str, data: bytes, client: Any) -> bool:
        """Hand a datagram on to the worker of a name; return whether there is one."""
        if name == self.name:
            return False
        for file in (name.hex(), name.hex() + _RETIRED):
            if os.path.exists(self._path(file)):
                self._add(file, server, data, client)
                return True
        return False

    def forward_new(self, server: str, data: bytes, client: Any) -> None:
        """Hand the beginning of a connection on to a worker that takes new ones."""
        for file in os.listdir(self._folder):
            if not file.endswith(_RETIRED) and self._is_alive(file):
                self._add(file, server, data, client)
                return

    def flush(self) -> None:
        """Send what is to be handed on."""
        for file, message in self._waiting.items():
            self._send(file, message)
        self._waiting.clear()

    def retire(self) -> None:
        """Let others hand no beginnings on to this worker. May be called again."""
        if not self._file.endswith(_RETIRED):
            file = self._file + _RETIRED
            os.rename(self._path(self._file), self._path(file))
            self._file = file

    def close(self) -> None:
        """Give the name up."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
            self._remove(self._file)

    def _bind(self) -> None:
        while not self.name:
            name = os.urandom(NAME_LENGTH)
            if os.path.exists(self._path(name.hex() + _RETIRED)):
                continue
            with suppress(FileExistsError):
                self._bind_to(name.hex())
                self.name, self._file = name, name.hex()

    def _bind_to(self, file: str) -> None:
        try:
            self._sock.bind(self._path(file))
        except OSError as error:
            # EADDRINUSE is what a socket says of a file that exists.
            if os.path.exists(self._path(file)):
                raise FileExistsError(file) from error
            raise

    def _add(self, file: str, server: str, data: bytes, client: Any) -> None:
        place = json.dumps((server, client)).encode()
        message = self._waiting.setdefault(file, bytearray())
        if len(message) + len(data) > _MESSAGE_SIZE:
            self._send(file, message)
            message.clear()
        message += _PART.pack(len(place), len(data))
        message += place
        message += data

    def _is_alive(self, file: str) -> bool:
        return file != self._file and self._send(file, b"")

    def _send(self, file: str, data: bytes | bytearray) -> bool:
        """Send a message; return whether there is somebody to get it."""
        try:
            self._sock.sendto(data, self._path(file))
        except FileNotFoundError:
            return False
        except ConnectionRefusedError:
            # Of a worker that was killed.
            self._remove(file)
            return False
        except OSError:
            # It has no room now.
            return True
        return True

    def _remove(self, file: str) -> None:
        with suppress(OSError):
            os.unlink(self._path(file))

    def _path(self, file: str) -> str:
        return os.path.join(self._folder, file)

    def _read(self) -> None:
        """Take one message, which has as many datagrams as a turn may well have."""
        try:
            message = self._sock.recv(2 * _MESSAGE_SIZE)
        except OSError:
            return
        for server, data, client in _split(message):
            self._receive(server, data, client)


def _make_room(sock: socket.socket) -> None:
    """Let a socket take whole messages; macOS lets it have 2048 bytes by default."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        if sock.getsockopt(socket.SOL_SOCKET, option) < 2 * _MESSAGE_SIZE:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, option, 2 * _MESSAGE_SIZE)


def _split(message: bytes) -> Iterator[tuple[str, bytes, Any]]:
    """Yield the server's address, the datagram and the client's address of each."""
    start = 0
    while start < len(message):
        place_size, size = _PART.unpack_from(message, start)
        start += _PART.size
        server, client = json.loads(message[start : start + place_size])
        start += place_size
        yield server, message[start : start + size], tuple(client)
        start += size
