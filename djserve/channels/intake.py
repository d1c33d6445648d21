"""Where the other processes connect to, and what is read of them, on one loop.

The sockets belong to the process and outlive a loop: they are attached to the one that
receives messages, and to another when that one has ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable

from djserve.channels.folder import LayerFolder, is_trusted
from djserve.channels.frames import Frame, FrameError, FrameReader

logger = logging.getLogger("djserve")

_BACKLOG = 128
_CHUNK = 64 * 1024
# Seconds before a connection for which no descriptor was left is tried again.
_REST = 0.5


class _Connection:
    """One peer that sends."""

    def __init__(self, sock: socket.socket, limit: int) -> None:
        self.sock = sock
        self.number = sock.fileno()
        self.reader = FrameReader(limit)
        self.is_paused = False


class Intake:
    """Hand each frame to ``deliver``, which returns whether its receivers lag behind.

    Between frames that find them so, the loop gets a turn: a burst that was read in one
    go is not lost to receivers that only need a moment.
    """

    def __init__(
        self,
        folder: LayerFolder,
        name: str,
        limit: int,
        deliver: Callable[[Frame], bool],
    ) -> None:
        """Listen, and show it. Raises OSError."""
        self._folder = folder
        self._path = folder.place_of(name)
        self._limit = limit
        self._deliver = deliver
        self._owner = folder.owner()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connections: dict[int, _Connection] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listen()
        except OSError:
            self._listener.close()
            raise

    def _listen(self) -> None:
        new = self._folder.new(self._path)
        self._listener.setblocking(False)
        self._listener.bind(new)
        os.chmod(new, 0o600)
        if os.geteuid() != self._owner:
            # Root among the site's processes; these must be able to connect.
            os.chown(new, self._owner, -1)
        self._listener.listen(_BACKLOG)
        self._folder.publish(self._path)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read on a loop, which is the one that runs."""
        self.detach()
        self._loop = loop
        loop.add_reader(self._listener.fileno(), self._accept)
        for connection in self._connections.values():
            connection.is_paused = False
            loop.add_reader(connection.number, self._read, connection)
            # What an ended loop had read and not delivered.
            loop.call_soon(self._take, connection)

    def detach(self) -> None:
        """Leave the loop, if it still is there to be left."""
        loop, self._loop = self._loop, None
        if loop is None or loop.is_closed():
            return
        loop.remove_reader(self._listener.fileno())
        for number in self._connections:
            loop.remove_reader(number)

    def close(self) -> None:
        """Hang up on all; any thread may call this."""
        loop = self._loop
        if (
            loop is not None
            and loop.is_running()
            and loop is not asyncio._get_running_loop()
        ):
            loop.call_soon_threadsafe(self._close)
        else:
            self._close()

    def _close(self) -> None:
        self.detach()
        self.abandon()

    def abandon(self) -> None:
        """Close a forked child's copies: the loop's selector is the parent's."""
        self._loop = None
        self._listener.close()
        for connection in self._connections.values():
            connection.sock.close()
        self._connections.clear()

    def _accept(self) -> None:
        loop = self._loop
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            self._rest()
            return
        if loop is None or not is_trusted(sock, self._owner):
            sock.close()
            return
        sock.setblocking(False)
        connection = _Connection(sock, self._limit)
        self._connections[connection.number] = connection
        loop.add_reader(connection.number, self._read, connection)

    def _rest(self) -> None:
        """Accept again later: the same peer would be tried over and over."""
        loop = self._loop
        if loop is not None:
            loop.remove_reader(self._listener.fileno())
            loop.call_later(_REST, self._resume, loop)

    def _resume(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is loop:
            loop.add_reader(self._listener.fileno(), self._accept)

    def _read(self, connection: _Connection) -> None:
        if connection.is_paused:
            return
        try:
            data = connection.sock.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.reader.feed(data)
        self._take(connection)

    def _take(self, connection: _Connection) -> None:
        """Deliver what has been read, until receivers lag behind."""
        connection.is_paused = False
        loop = self._loop
        if loop is None or connection.number not in self._connections:
            return
        take, deliver = connection.reader.take, self._deliver
        try:
            while (frame := take()) is not None:
                if deliver(frame):
                    connection.is_paused = True
                    loop.call_soon(self._take, connection)
                    return
        except FrameError as error:
            logger.error("Channel layer: a process has sent what it cannot: %s", error)
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        if self._loop is not None:
            self._loop.remove_reader(connection.number)
        self._connections.pop(connection.number, None)
        connection.sock.close()
