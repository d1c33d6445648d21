"""Messages between the supervisor and its processes: JSON lines on a socket pair.

File descriptors travel with a message (SCM_RIGHTS). The end of the peer's process ends
the channel. Nothing here blocks; what the socket does not take waits for ``flush``.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections import deque
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]

_READ_SIZE = 65536
_READS = 16
"""In one call: a peer that writes without an end has others wait no longer."""
_MOST_DESCRIPTORS = 8

GUEST_LIMIT = 1024 * 1024
"""Bytes of one message of a guest's, and of answers that it has not read."""


class Channel:
    """One end of a pair, or of a connection to a control socket.

    The peer is a guest if it is not a process of ours: it is cut off beyond
    GUEST_LIMIT, and its descriptors are not taken.
    """

    def __init__(self, sock: socket.socket, *, is_guest: bool = False) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._is_guest = is_guest
        self._incoming = b""
        self._outgoing: deque[tuple[bytes, list[int]]] = deque()
        self._descriptors: deque[int] = deque()

    @classmethod
    def adopt(cls, number: int) -> Channel:
        """Return the channel on a descriptor that this process has inherited."""
        return cls(socket.socket(fileno=number))

    def fileno(self) -> int:
        """Return the socket's descriptor, for selectors; -1 after ``close``."""
        return self._sock.fileno()

    @property
    def has_output(self) -> bool:
        """Whether something waits for ``flush``."""
        return bool(self._outgoing)

    def send(self, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        """Send a message, or keep it if the socket is full.

        Descriptors are duplicated into the peer's process; ours stay open. A peer that
        is gone raises nothing: ``receive`` tells it.
        """
        waiting = sum(len(data) for data, _ in self._outgoing)
        if self._is_guest and waiting > GUEST_LIMIT:
            self._cut_off()
            return
        line = json.dumps(message).encode() + b"\n"
        # Kept apart from ours, which may be closed before the message goes out.
        copies = [os.dup(number) for number in descriptors]
        self._outgoing.append((line, copies))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        while self._outgoing:
            data, copies = self._outgoing.popleft()
            try:
                sent = self._send_part(data, copies)
            except BlockingIOError:
                self._outgoing.appendleft((data, copies))
                return
            except OSError:
                _close_all(copies)
                self._drop_output()
                return
            _close_all(copies)
            if sent < len(data):
                self._outgoing.appendleft((data[sent:], []))

    def receive(self) -> list[Message]:
        """Return the messages that have come. Raises EOFError once the peer is gone.

        What is left, if it is much, comes with the next call.
        """
        is_over = False
        for _ in range(_READS):
            try:
                data, descriptors, _, _ = socket.recv_fds(
                    self._sock, _READ_SIZE, _MOST_DESCRIPTORS
                )
            except BlockingIOError:
                break
            except OSError:
                data, descriptors = b"", []
            if self._is_guest:
                _close_all(descriptors)
            else:
                self._descriptors += descriptors
            if not data:
                is_over = True
                break
            self._incoming += data
        *lines, self._incoming = self._incoming.split(b"\n")
        if self._is_guest and len(self._incoming) > GUEST_LIMIT:
            raise EOFError
        messages = [json.loads(line) for line in lines]
        if is_over and not messages:
            raise EOFError
        return messages

    def take_descriptor(self) -> int:
        """Return the next descriptor that came with a message, in their order."""
        return self._descriptors.popleft()

    def close(self) -> None:
        """Close this end; what waits is dropped."""
        self._drop_output()
        _close_all(self._descriptors)
        self._descriptors.clear()
        self._sock.close()

    def _send_part(self, data: bytes, copies: list[int]) -> int:
        if not copies:
            return self._sock.send(data)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", copies))
        return self._sock.sendmsg([data], [rights])

    def _cut_off(self) -> None:
        self._drop_output()
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            # It has gone by itself.
            return

    def _drop_output(self) -> None:
        for _, copies in self._outgoing:
            _close_all(copies)
        self._outgoing.clear()


def open_pair() -> tuple[Channel, Channel]:
    """Return two connected channels; neither is inherited by another program."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Channel(ours), Channel(theirs)


def _close_all(descriptors: Any) -> None:
    for number in descriptors:
        os.close(number)
