"""A cleartext connection's first bytes -> which protocol the peer speaks.

HTTP/2 with prior knowledge begins with a preface that is not an HTTP/1.1 request
(RFC 9113 section 3.4), so that both can share a port without TLS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.protocols.http2.frames import PREFACE

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.interfaces import Connection, Transport


class PrefaceDetector:
    """Wait for enough bytes to tell, then hand them and the transport over.

    ``choose`` is called once, with whether the peer speaks HTTP/2, and returns the
    protocol; ``give_up`` if the connection ends before. ``has_input`` returns whether
    the peer has sent what has not come up yet.
    """

    __slots__ = (
        "_choose",
        "_chosen",
        "_data",
        "_give_up",
        "_has_input",
        "_is_draining",
        "_is_put_off",
        "_opened_at",
        "_timeout",
        "_transport",
        "mark",
    )

    def __init__(
        self,
        transport: Transport,
        timeout: float,
        choose: Callable[[PrefaceDetector, bool], Connection],
        give_up: Callable[[PrefaceDetector], None],
        has_input: Callable[[Transport], bool] = lambda transport: False,
    ) -> None:
        self._transport = transport
        self._timeout = timeout
        self._choose = choose
        self._chosen: Connection | None = None
        self._give_up = give_up
        self._has_input = has_input
        self._data = b""
        self._opened_at: float | None = None
        self._is_draining = False
        self._is_put_off = False
        self.mark = 0

    def data_received(self, data: bytes) -> None:
        """Decide as soon as the bytes differ from the preface, or are all of it."""
        data = self._data + data
        if len(data) < len(PREFACE) and PREFACE.startswith(data):
            self._data = data
            self.mark += 1
            return
        connection = self._chosen = self._choose(self, data.startswith(PREFACE))
        self._transport.set_protocol(connection)
        connection.data_received(data)
        if self._is_draining:
            # Afterwards: what has come is no longer idle.
            connection.drain()

    def eof_received(self) -> None:
        """The peer has gone; at None the loop closes the transport."""

    def pause_writing(self) -> None:
        """Nothing is written yet."""

    def resume_writing(self) -> None:
        """Nothing is written yet."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on if the choice has been made since it happened (TLS)."""
        if self._chosen is None:
            self._give_up(self)
        else:
            self._chosen.connection_lost(exc)

    def tick(self, now: float) -> None:
        """Close a connection that stays silent."""
        if self._opened_at is None:
            self._opened_at = now
        elif self._is_put_off or now - self._opened_at >= self._timeout:
            self._end()

    def drain(self) -> None:
        """End an idle connection; what has begun is still answered."""
        self._is_draining = True
        if not self._data:
            self._end()

    @property
    def idle_since(self) -> tuple[bool, float] | None:
        """Since when the peer has been silent; it has never made a request."""
        if self._data or self._opened_at is None or self._is_draining:
            return None
        return (False, self._opened_at)

    @property
    def held_size(self) -> int:
        """Bytes of the preface that have come."""
        return len(self._data)

    def give_way(self) -> bool:
        """End unless the peer has begun."""
        if self.idle_since is None or self._has_input(self._transport):
            return False
        self._end()
        return True

    def abort_transport(self) -> None:
        self._transport.abort()

    def _end(self) -> None:
        """End as an idle HTTP/1.1 connection does, unless the peer has just begun."""
        if self._has_input(self._transport) and not self._is_put_off:
            self._is_put_off = True
            return
        connection = self._chosen = self._choose(self, False)
        self._transport.set_protocol(connection)
        connection.drain()
