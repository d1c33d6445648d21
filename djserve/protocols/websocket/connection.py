"""One WebSocket from the accepted handshake to the end of its transport.

Messages go up to an observer; messages and the closing handshake (RFC 6455 section 7)
go down. It has no clock: each deadline is counted in the times that ``tick`` brings.
"""

# The closing handshake (RFC 6455 section 7)
#
# Each side sends one Close frame, and nothing after it (section 5.5.1); when both have
# been sent, the server closes the TCP connection (section 7.1.1), so that TIME_WAIT is
# held on this side. There are three ways to the end, and the observer hears of it once
# in each, when the state leaves OPEN:
#
# - The peer begins. The parser answers its Close frame, then calls ``close_received``,
#   and the transport is closed: what is buffered, the answer last, still goes out. The
#   code is the peer's, 1005 if it gave none.
# - We begin: the application, a drain, the lifetime, a broken rule or limit.
#   ``_start_closing`` sends the frame and enters CLOSING. The application is told at
#   once, not at the peer's answer: it has nothing more to do with this connection. The
#   reader skips all that comes up to the peer's Close, for messages that were under way
#   must not reach an application that has been told of the end. Reading is resumed if
#   the application had paused it, or the answer would never be read.
#   WEBSOCKET_CLOSE_TIMEOUT bounds the wait; then the connection is reset.
# - There is no handshake: the transport ends, or the peer ends its side without a
#   Close. The code is 1006, which is never sent. After a ping that was not answered in
#   time the Close frame is sent for a peer that may still read, but no answer is waited
#   for: this peer has been silent for long enough.
#
# What is not sent while CLOSING: messages, which are dropped, and pongs. What is always
# checked: that the peer takes what is written to it. A peer that reads nothing would
# otherwise keep the buffer, and a Close frame behind it, for as long as it likes.

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from djserve.instrumentation.limits import note_limit
from djserve.interfaces import (
    CLOSE_ABNORMAL,
    CLOSE_GOING_AWAY,
    CLOSE_INTERNAL_ERROR,
    CLOSE_NORMAL,
    CLOSE_POLICY_VIOLATION,
    CLOSE_SERVICE_RESTART,
    CLOSE_TOO_BIG,
)
from djserve.protocols.closing import close_transport
from djserve.protocols.websocket.codec import create_deflate, encode
from djserve.protocols.websocket.frames import (
    OPCODE_BINARY,
    OPCODE_PING,
    OPCODE_PONG,
    OPCODE_TEXT,
    encode_close,
    encode_control,
    is_sendable,
)
from djserve.protocols.websocket.reader import FrameReader
from djserve.protocols.websocket.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.conf.schema import WebSocketConfig
    from djserve.interfaces import Transport, WebSocketObserver
    from djserve.protocols.websocket.deflate import DeflateAgreement
    from djserve.protocols.websocket.masking import SharedBuffer


# A frame that is too big is a part of a message that is.
_LIMITS = {
    CLOSE_POLICY_VIOLATION: "WEBSOCKET_SMALL_FRAME_LIMIT",
    CLOSE_TOO_BIG: "WEBSOCKET_MESSAGE_SIZE_LIMIT",
}


class ConnectionState(Enum):
    """OPEN, CLOSING once our Close is sent, CLOSED once both are or the peer left."""

    OPEN = auto()
    CLOSING = auto()
    CLOSED = auto()


class WebSocketConnection:
    """Carry one open WebSocket over a transport (interfaces.WebSocket)."""

    __slots__ = (
        "_close_timeout",
        "_closing_since",
        "_deflate",
        "_drained",
        "_is_pong_due",
        "_is_reading_paused",
        "_is_waiting",
        "_is_writing_paused",
        "_lifetime",
        "_observer",
        "_opened_at",
        "_ping_interval",
        "_ping_timeout",
        "_pinged_at",
        "_progress_at",
        "_reader",
        "_reset",
        "_state",
        "_transport",
        "_turns",
        "_unanswered_ping",
        "_was_heard",
        "_write_timeout",
        "_written",
        "read_buffer",
    )

    def __init__(
        self,
        config: WebSocketConfig,
        observer: WebSocketObserver,
        *,
        write_timeout: float,
        deflate: DeflateAgreement | None = None,
        read_buffer: SharedBuffer | None = None,
        turns: Turns | None = None,
        reset: Callable[[Transport], None] | None = None,
    ) -> None:
        self._observer = observer
        self._reset = reset
        self.read_buffer = read_buffer
        """What ``buffer_updated`` reads from (interfaces.BufferedReceiver)."""
        self._turns = Turns() if turns is None else turns
        message_limit = config.websocket_message_size_limit
        self._deflate = create_deflate(deflate, message_limit) if deflate else None
        self._reader = FrameReader(
            self,
            observer.message_received,
            message_limit=message_limit,
            frame_limit=config.websocket_frame_size_limit,
            deflate=self._deflate,
            small_frame_limit=config.websocket_small_frame_limit,
            turns=self._turns,
        )
        self._state = ConnectionState.OPEN
        self._transport: Transport | None = None
        self._is_reading_paused = False
        self._is_waiting = False
        self._is_writing_paused = False
        self._unanswered_ping: bytes | None = None
        self._was_heard = False
        self._is_pong_due = False
        self._written = 0
        self._drained = 0
        self._write_timeout = write_timeout
        self._close_timeout = config.websocket_close_timeout
        self._ping_interval = config.websocket_ping_interval
        self._ping_timeout = config.websocket_ping_timeout
        # As with Daphne's --websocket_timeout, a negative time means none.
        lifetime = config.websocket_timeout
        self._lifetime = lifetime if lifetime is not None and lifetime >= 0 else None
        self._opened_at: float | None = None
        self._pinged_at = 0.0
        self._progress_at = 0.0
        self._closing_since: float | None = None

    @property
    def is_open(self) -> bool:
        return self._state is ConnectionState.OPEN

    @property
    def held_size(self) -> int:
        """Bytes of messages that are not complete, or that wait for the observer."""
        return self._reader.held_size + getattr(self._observer, "held_size", 0)

    def attach(self, transport: Transport) -> None:
        """Begin on the transport that ``Stream.upgrade`` returned."""
        if self._state is ConnectionState.CLOSED:
            return
        self._transport = transport
        if self._is_reading_paused:
            transport.pause_reading()

    # The application's side.

    def send_text(self, text: str) -> int:
        """Send a text message; dropped once the connection is closing.

        Return its bytes if compression was agreed on, or 0: what the loop had to
        compress. Raises UnicodeEncodeError for text that UTF-8 cannot carry (lone
        surrogates).
        """
        if self._state is not ConnectionState.OPEN:
            return 0
        data = text.encode()
        self.write(encode(data, OPCODE_TEXT, self._deflate))
        return 0 if self._deflate is None else len(data)

    def send_binary(self, data: bytes) -> int:
        """Send a binary message, as ``send_text`` does."""
        if self._state is not ConnectionState.OPEN:
            return 0
        self.write(encode(data, OPCODE_BINARY, self._deflate))
        return 0 if self._deflate is None else len(data)

    def close(self, code: int = CLOSE_NORMAL, reason: str = "") -> None:
        """Start the closing handshake; nothing happens if it has been started.

        Raises ValueError for a code that a Close frame must not carry.
        """
        if not is_sendable(code):
            raise ValueError(
                f"Close code must be 1000 to 1003, 1007 to 1014 or 3000 to 4999, "
                f"got {code!r}"
            )
        if self._state is ConnectionState.OPEN:
            self._start_closing(code, reason)

    def pause_reading(self) -> None:
        """Deliver no more messages; the peer is held back."""
        if self._state is ConnectionState.OPEN and not self._is_reading_paused:
            self._is_reading_paused = True
            self._reader.pause()
            if self._transport is not None:
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Deliver messages again, beginning with those that have arrived already."""
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._reader.resume()
        # Delivering what had arrived may have paused reading again, or ended it all.
        if not self._is_reading_paused and self._state is not ConnectionState.CLOSED:
            self._resume_transport()

    # The transport's side (interfaces.Receiver).

    def data_received(self, data: bytes) -> None:
        self._was_heard = True
        self._reader.receive(data)

    def buffer_updated(self, size: int) -> None:
        assert self.read_buffer is not None
        self._was_heard = True
        self._reader.receive_from(self.read_buffer, size)

    def eof_received(self) -> None:
        """End it: a peer that sends nothing more cannot close properly."""
        self._finish(CLOSE_ABNORMAL, "")

    def pause_writing(self) -> None:
        self._is_writing_paused = True
        self._observer.pause_writing()

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        ping, self._unanswered_ping = self._unanswered_ping, None
        if ping is not None:
            self.ping_received(ping)
        self._observer.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        was_open = self._state is ConnectionState.OPEN
        self._state = ConnectionState.CLOSED
        self._transport = None
        self._reader.stop()
        if was_open:
            self._observer.closed(CLOSE_ABNORMAL, "")

    # The server's side (interfaces.WireProtocol).

    def tick(self, now: float) -> None:
        """Act on what is due: pings, the lifetime, and each deadline on the peer."""
        if self._opened_at is None:
            self._opened_at = self._pinged_at = self._progress_at = now
        self._reader.refill()
        if self._transport is None:
            return
        if self._is_stalled(now):
            note_limit("WRITE_TIMEOUT")
            self._abort()
        elif self._state is ConnectionState.OPEN:
            self._check_life(now)
        elif self._closing_since is None:
            self._closing_since = now
        elif now - self._closing_since >= self._close_timeout:
            self._abort()

    def drain(self) -> None:
        """Close since the server stops; clients may come back at once (1012)."""
        self.close(CLOSE_SERVICE_RESTART, "Service Restart")

    # The reader's side (codec.FrameSink).

    def write(self, data: bytes) -> None:
        assert self._transport is not None
        self._written += len(data)
        self._transport.write(data)

    def ping_received(self, payload: bytes) -> None:
        """Answer a Ping, or keep it while the peer reads nothing.

        RFC 6455 section 5.5.3 lets a late answer stand for all earlier ones, so that a
        peer cannot fill our memory with pongs that it does not take.
        """
        if self._is_writing_paused:
            self._unanswered_ping = payload
        elif self._state is ConnectionState.OPEN:
            self.write(encode_control(payload, OPCODE_PONG))

    def close_received(self, code: int, reason: str) -> None:
        self._finish(code, reason)

    def close_answered(self) -> None:
        self._finish(CLOSE_ABNORMAL, "")

    def failed(self, code: int, reason: str) -> None:
        note_limit(_LIMITS.get(code, ""))
        self._start_closing(code, reason)

    def turn_spent(self, *, is_heavy: bool) -> None:
        """Hold the peer back until the reader's next turn."""
        self._is_waiting = True
        if self._transport is not None:
            self._transport.pause_reading()
        self._turns.wait(self._begin_turn, is_heavy=is_heavy)

    def _begin_turn(self) -> None:
        if self._state is ConnectionState.CLOSED:
            return
        self._is_waiting = False
        self._reader.proceed()
        if not self._is_reading_paused:
            self._resume_transport()

    def _start_closing(self, code: int, reason: str) -> None:
        self.write(encode_close(code, reason))
        self._state = ConnectionState.CLOSING
        was_paused, self._is_reading_paused = self._is_reading_paused, False
        self._observer.closed(code, reason)
        if was_paused:
            self._resume_transport()
        self._reader.discard()

    def _finish(self, code: int, reason: str) -> None:
        """Close the transport; RFC 6455 section 7.1.1: the server does it first."""
        was_open = self._state is ConnectionState.OPEN
        self._state = ConnectionState.CLOSED
        self._reader.stop()
        if self._transport is not None:
            close_transport(self._transport)
        if was_open:
            self._observer.closed(code, reason)

    def _abort(self) -> None:
        assert self._transport is not None
        if self._reset is not None:
            self._reset(self._transport)
        else:
            self._transport.abort()

    def _resume_transport(self) -> None:
        if self._transport is not None and not self._is_waiting:
            self._transport.resume_reading()

    def _is_stalled(self, now: float) -> bool:
        """Return whether the peer has taken nothing for the write timeout."""
        assert self._transport is not None
        waiting = self._transport.get_write_buffer_size()
        drained = self._written - waiting
        if waiting == 0 or drained > self._drained:
            self._progress_at = now
        self._drained = drained
        return now - self._progress_at >= self._write_timeout

    def _check_life(self, now: float) -> None:
        assert self._opened_at is not None
        # While reading is paused nothing can be heard: not the peer's fault.
        if self._was_heard or self._is_reading_paused or self._is_waiting:
            self._was_heard = self._is_pong_due = False
        if self._lifetime is not None and now - self._opened_at >= self._lifetime:
            self._start_closing(CLOSE_GOING_AWAY, "Lifetime limit reached")
        elif self._ping_interval > 0:
            self._check_ping(now)

    def _check_ping(self, now: float) -> None:
        if self._is_pong_due:
            if now - self._pinged_at >= self._ping_timeout:
                self._start_closing(CLOSE_INTERNAL_ERROR, "Ping timeout")
                self._finish(CLOSE_INTERNAL_ERROR, "")
        # A peer that takes nothing is left to the write timeout.
        elif (
            now - self._pinged_at >= self._ping_interval and not self._is_writing_paused
        ):
            self._pinged_at = now
            self._is_pong_due = True
            self.write(encode_control(b"", OPCODE_PING))
