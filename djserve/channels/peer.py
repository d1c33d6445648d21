"""Another process of the site, as one that sends to it sees it.

Writing never waits: what the kernel does not take at once stays here, up to a limit,
and ``flush`` writes it later. A peer that is stopped costs that much memory and no
time. The caller holds the node's lock.
"""

# What a slow process costs the others
#
# A sender has one of these for each process, with a connection, a buffer and a limit of
# that peer alone. Whatever a peer does can therefore only delay or lose its own
# messages.
#
# A frame that the kernel has taken in part is completed first, whatever happens: the
# reader would otherwise take the next frame for the end of this one. Of those that have
# not been begun, the ones that have expired are left out when their turn comes.
#
# When the buffer is full, new messages are dropped, and not those that wait. It is
# logged once, until all that waits has been written.
#
# Gone and busy are told apart by the error of ``connect``. A queue of connections that
# is full (EAGAIN) belongs to a process that lives and is stopped; any other error means
# that it has ended, and then nothing is kept for it.

from __future__ import annotations

import logging
import socket
import time
from collections import deque

from djserve.channels.folder import LayerFolder, is_trusted
from djserve.channels.register import Register

logger = logging.getLogger("djserve")

_FLAGS: int = getattr(socket, "MSG_DONTWAIT", 0) | getattr(socket, "MSG_NOSIGNAL", 0)
# More than most systems grant; they take it for the most that they do.
_SOCKET_BUFFER = 1 << 20
# What one call of flush() writes before others get the lock.
_TURN = 64


class Peer:
    """One connection to a process, opened by the first message to it."""

    def __init__(self, folder: LayerFolder, name: str, limit: int) -> None:
        """Raises OSError if the process has left."""
        self.name = name
        self.is_gone = False
        """Whether the process has ended: there is nothing to be sent to it ever."""
        self.is_dropping = False
        """Whether it has left so much unread that it gets no more for now."""
        self.register = Register(folder.register_of(name))
        self._folder = folder
        self._limit = limit
        self._sock: socket.socket | None = None
        # The rest of a frame that is on its way is sent whatever happens.
        self._rest = b""
        self._frames: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._invited: dict[str, float] = {}

    @property
    def has_backlog(self) -> bool:
        return bool(self._frames or self._rest)

    @property
    def sock(self) -> socket.socket | None:
        """The connection, for a selector."""
        return self._sock

    def invite(self, group: str, until: float) -> None:
        """Send the group's messages until then even if the register names no member.

        The peer has been told of one, and may not have read it.
        """
        now = time.monotonic()
        self._invited = {name: end for name, end in self._invited.items() if end > now}
        self._invited[group] = until

    def wants(self, group: str, slot: int, now: float) -> bool:
        """Return whether a group may have members there."""
        if self.register.has_slot(slot):
            return True
        return bool(self._invited) and self._invited.get(group, 0.0) > now

    def push(self, frame: bytes, expires: float) -> bool:
        """Send a frame, or keep it for ``flush``; False if it is dropped."""
        if self.has_backlog or not self._connect():
            return self._keep(frame, expires)
        sent = self._write(frame)
        if sent == len(frame):
            return True
        if self.is_gone:
            return False
        if sent:
            self._rest = frame[sent:]
            self._size += len(self._rest)
            return True
        return self._keep(frame, expires)

    def flush(self, now: float) -> bool:
        """Write what was kept; True if that has been done."""
        if not self._connect():
            return self.is_gone
        for _ in range(_TURN):
            if not self._rest and not self._next(now):
                self.is_dropping = False
                return True
            sent = self._write(self._rest)
            self._size -= sent
            self._rest = self._rest[sent:]
            if self._rest:
                break
        return self.is_gone

    def close(self) -> None:
        """Close the connection; what the kernel has taken still arrives."""
        self.is_gone = True
        self._hang_up()
        self.register.close()

    def _next(self, now: float) -> bool:
        while self._frames:
            expires, frame = self._frames.popleft()
            if expires > now:
                self._rest = frame
                return True
            self._size -= len(frame)
        return False

    def _keep(self, frame: bytes, expires: float) -> bool:
        if self.is_gone:
            return False
        if self._size + len(frame) > self._limit:
            if not self.is_dropping:
                self.is_dropping = True
                logger.warning(
                    "Channel layer: process %s has left %d bytes unread, and gets no "
                    "more messages until it reads on",
                    self.name,
                    self._size,
                )
            return False
        self._frames.append((expires, frame))
        self._size += len(frame)
        return True

    def _connect(self) -> bool:
        if self._sock is not None:
            return True
        if self.is_gone:
            return False
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError:
            # No descriptor is left; ``flush`` tries again.
            return False
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
            sock.connect(self._folder.place_of(self.name))
        except BlockingIOError:
            # Its queue of connections is full; it is not gone.
            sock.close()
            return False
        except OSError:
            sock.close()
            self._lose()
            return False
        if not is_trusted(sock, self._folder.owner()):
            sock.close()
            self._lose()
            return False
        self._sock = sock
        return True

    def _write(self, data: bytes) -> int:
        """Return how many bytes the kernel has taken."""
        assert self._sock is not None
        try:
            return self._sock.send(data, _FLAGS)
        except BlockingIOError:
            return 0
        except OSError:
            self._lose()
            return 0

    def _lose(self) -> None:
        self.is_gone = True
        self._hang_up()

    def _hang_up(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self._rest = b""
        self._frames.clear()
        self._size = 0
