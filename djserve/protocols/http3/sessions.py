"""WebTransport sessions of one connection: whose a stream or a datagram is.

draft-ietf-webtrans-http3, in the versions 02 and 07 that browsers speak.
"""

# A session is an extended CONNECT whose stream stays open. Its other streams begin with
# a type and the number of that stream, so whose a new stream is shows in its first
# bytes, which may come one by one, and before the CONNECT itself (QUIC orders each
# stream alone). Three kinds of streams are told apart here:
#
# - begun: the first bytes do not say yet. At most fifteen bytes are kept.
# - early: the session is not open, but may be. The bytes are kept, without credit for
#   more, for at most EARLY_STREAM_LIMIT streams of a connection; others are refused by
#   the code that the draft has for it. So are those of a session that is over, which
#   were on their way when it ended.
# - a session's: handed on as they come. Credit is given when the application has taken
#   the bytes, so what a session holds is bounded by QUIC's windows.
#
# STOP_SENDING may come before the first bytes do, and waits for them.
#
# All else is a request's or a control stream's, and returned to the connection.

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.errors import ApplicationError
from djserve.protocols.http3 import frames
from djserve.protocols.http3.capsules import CapsuleReader, encode_close
from djserve.protocols.http3.errors import ErrorCode, HTTP3Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.interfaces import (
        MultiplexTransport,
        Transport,
        WebTransportObserver,
    )

# draft-ietf-webtrans-http3 section 9.5.
BUFFERED_STREAM_REJECTED = 0x3994BD84
SESSION_GONE = 0x170D7B68

EARLY_STREAM_LIMIT = 16
"""Streams of a connection whose session is not open; the draft asks for a limit."""

STREAM_BUFFER_SIZE = 64 * 1024
"""Bytes of a stream that may wait before the application has to wait as well."""

DATAGRAM_SIZE_LIMIT = 1100
"""Bytes of a datagram that fit a packet of QUIC's least size, with all around them."""

STOPPED_LIMIT = 1024
"""Streams that a client has stopped and the application has not ended yet."""

# draft-ietf-webtrans-http3 section 4.3: the codes of applications among HTTP/3's, every
# thirty-first of which is reserved.
_FIRST_CODE = 0x52E4A40FA8DB
_LAST_CODE = 0x52E5AC983162


def encode_code(code: int) -> int:
    """Return HTTP/3's code for an application's. Raises ValueError beyond 32 bits."""
    if not 0 <= code < 1 << 32:
        raise ValueError(f"a code has 32 bits, {code} does not fit")
    return _FIRST_CODE + code + code // 0x1E


def decode_code(code: int) -> int:
    """Return an application's code for HTTP/3's; 0 for those that stand for none."""
    if not _FIRST_CODE <= code <= _LAST_CODE or (code - 0x21) % 0x1F == 0:
        return 0
    shifted = code - _FIRST_CODE
    return shifted - shifted // 0x1F


class Session:
    """One session (interfaces.WebTransport), on its CONNECT stream (WireProtocol)."""

    __slots__ = (
        "_capsules",
        "_connect",
        "_is_ended",
        "_observer",
        "_receiving",
        "_sending",
        "_stopped",
        "_table",
        "_transport",
        "_untaken",
        "_waiting",
        "session_id",
    )

    def __init__(
        self, table: SessionTable, session_id: int, observer: WebTransportObserver
    ) -> None:
        self._table = table
        self._transport = table.transport
        self._observer = observer
        self.session_id = session_id
        self._capsules = CapsuleReader()
        self._connect: Transport | None = None
        self._is_ended = False
        # The streams by their open sides: those we send on, and those the peer does.
        self._sending: set[int] = set()
        self._receiving: set[int] = set()
        # Those that the peer has ended or reset, until the application knows of it.
        self._untaken: set[int] = set()
        # Those that the peer has stopped, until the application ends them: it cannot
        # know yet, and what it sends is dropped. The oldest first.
        self._stopped: dict[int, None] = {}
        self._waiting: set[int] = set()

    def attach(self, connect: Transport) -> None:
        """Take the upgraded CONNECT stream: the session is open."""
        self._connect = connect
        self._table.session_began(self)

    @property
    def held_size(self) -> int:
        """Bytes that wait for the application."""
        size: int = getattr(self._observer, "held_size", 0)
        return size

    # The application's side (interfaces.WebTransport).

    def open_stream(self, is_unidirectional: bool) -> int:
        """Return the number of a new stream to the peer."""
        stream_id = self._transport.open_stream(is_unidirectional)
        kind = (
            frames.WEBTRANSPORT_STREAM
            if is_unidirectional
            else frames.WEBTRANSPORT_BIDIRECTIONAL
        )
        start = frames.encode_integer(kind) + frames.encode_integer(self.session_id)
        self._add(stream_id)
        self._transport.write_stream(stream_id, start, False)
        return stream_id

    def send(self, stream_id: int, data: bytes, is_last: bool) -> None:
        """Send on a stream. Raises ApplicationError if our side is not open.

        What is sent on a stream that the peer has stopped is dropped.
        """
        if stream_id in self._stopped:
            if is_last:
                self._forget_stopped(stream_id)
            return
        if stream_id not in self._sending:
            raise ApplicationError(f"Stream {stream_id} cannot be sent on")
        self._transport.write_stream(stream_id, data, is_last)
        if not self.is_writable(stream_id):
            self._waiting.add(stream_id)
        if is_last:
            self._sending.discard(stream_id)
            self._check_ended(stream_id)

    def is_writable(self, stream_id: int) -> bool:
        """Return whether the peer takes a stream, and little of it waits to be sent.

        Without the first, an application that opens one for each message would fill
        the memory for a client that lets none begin.
        """
        transport = self._transport
        return not (
            transport.waiting_size(stream_id) > STREAM_BUFFER_SIZE
            or transport.is_blocked(stream_id)
        )

    def reset_stream(self, stream_id: int, code: int) -> None:
        """End our side of a stream at once, if it is open.

        Raises ValueError for a bad code.
        """
        encoded = encode_code(code)
        if stream_id in self._sending:
            self._transport.reset_stream(stream_id, encoded)
            self._sending.discard(stream_id)
            self._check_ended(stream_id)
        elif stream_id in self._stopped:
            self._forget_stopped(stream_id)

    def stop_stream(self, stream_id: int, code: int) -> None:
        """Ask the peer to end its side of a stream, if it is open.

        Raises ValueError likewise.
        """
        encoded = encode_code(code)
        if stream_id in self._receiving:
            self._transport.stop_stream(stream_id, encoded)

    def consumed(self, stream_id: int, size: int, is_last: bool) -> None:
        """Give the peer credit for bytes that the application has taken."""
        self._transport.acknowledge(stream_id, size)
        if is_last and not self._is_ended:
            self._untaken.discard(stream_id)
            self._check_ended(stream_id)

    def send_datagram(self, data: bytes) -> None:
        """Send a datagram, which may get lost. Raises ApplicationError if too large."""
        if len(data) > DATAGRAM_SIZE_LIMIT:
            raise ApplicationError(
                f"A datagram has at most {DATAGRAM_SIZE_LIMIT} bytes, not {len(data)}"
            )
        quarter = frames.encode_integer(self.session_id // 4)
        self._transport.send_datagram(quarter + data)

    def close(self, code: int, reason: str) -> None:
        """End the session. Raises ValueError for what cannot be said."""
        capsule = encode_close(code, reason)
        if not self._is_ended:
            self._end_with(capsule, code, reason)

    # The CONNECT stream's side (interfaces.WireProtocol).

    def data_received(self, data: bytes) -> None:
        try:
            end = self._capsules.feed(data)
        except HTTP3Error:
            self._abort()
            return
        if end is not None:
            self._end_with(b"", *end)

    def eof_received(self) -> None:
        """The peer has ended the session without a word: as with code 0."""
        self._end_with(b"", 0, "")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(None, "")

    def pause_writing(self) -> None:
        """Go on: a session's end is all that is written."""

    def resume_writing(self) -> None:
        """Do nothing: it was not paused."""

    def tick(self, now: float) -> None:
        """Check nothing: an idle session is the connection's to keep alive."""

    def drain(self) -> None:
        """End: the peer finds another server."""
        self.close(0, "The server is stopping")

    # The table's side.

    @property
    def takes_streams(self) -> bool:
        """Whether the peer may open one more."""
        return self._observer.takes_streams

    def stream_began(self, stream_id: int) -> None:
        """Take a stream that the peer has opened."""
        self._add(stream_id)

    def stream_received(self, stream_id: int, data: bytes, is_last: bool) -> None:
        """Hand bytes of a stream on."""
        if is_last:
            self._receiving.discard(stream_id)
            self._untaken.add(stream_id)
        self._observer.stream_received(stream_id, data, is_last)

    def stream_reset(self, stream_id: int, code: int) -> None:
        """The peer has ended its side of a stream before its end."""
        self._receiving.discard(stream_id)
        self._untaken.add(stream_id)
        # The observer drops what has come of it, and the rest never will.
        self._transport.forget_stream(stream_id)
        self._observer.stream_reset(stream_id, decode_code(code))

    def stream_stopped(self, stream_id: int, code: int) -> None:
        """The peer takes no more of a stream, which has been reset.

        It may say so any number of times, and after our end.
        """
        if stream_id not in self._sending:
            return
        self._sending.discard(stream_id)
        self._waiting.discard(stream_id)
        self._stopped[stream_id] = None
        if len(self._stopped) > STOPPED_LIMIT:
            self._forget_stopped(next(iter(self._stopped)))
        self._observer.stream_stopped(stream_id, decode_code(code))

    def datagram_received(self, data: bytes) -> None:
        """Hand a datagram on."""
        self._observer.datagram_received(data)

    def bytes_sent(self) -> None:
        """Tell of the streams that take more."""
        for stream_id in [*self._waiting]:
            if self.is_writable(stream_id):
                self._waiting.discard(stream_id)
                self._observer.stream_writable(stream_id)

    # Private.

    def _add(self, stream_id: int) -> None:
        # RFC 9000 section 2.1: who has opened a stream, and whether both may send.
        is_ours, is_unidirectional = stream_id % 2 == 1, stream_id % 4 >= 2
        if is_ours or not is_unidirectional:
            self._sending.add(stream_id)
        if not is_ours or not is_unidirectional:
            self._receiving.add(stream_id)
        self._table.stream_belongs(stream_id, self)

    def _check_ended(self, stream_id: int) -> None:
        """Forget a stream whose sides have ended; who waits for it is still told."""
        if not (
            stream_id in self._sending
            or stream_id in self._receiving
            or stream_id in self._untaken
            or stream_id in self._stopped
        ):
            self._table.stream_ended(stream_id)
            self._observer.stream_ended(stream_id)

    def _forget_stopped(self, stream_id: int) -> None:
        del self._stopped[stream_id]
        self._check_ended(stream_id)

    def _abort(self) -> None:
        if self._connect is not None:
            self._connect.abort()

    def _end_with(self, capsule: bytes, code: int, reason: str) -> None:
        """End our side of the CONNECT stream, after a capsule, and all the rest."""
        if self._connect is not None:
            if capsule:
                self._connect.write(capsule)
            self._connect.close()
        self._end(code, reason)

    def _end(self, code: int | None, reason: str) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        # First: it gives credit for what it holds, which is not counted twice then.
        self._observer.closed(code, reason)
        gone = SESSION_GONE
        for stream_id in self._sending:
            self._transport.reset_stream(stream_id, gone)
        for stream_id in self._receiving:
            self._transport.stop_stream(stream_id, gone)
        open_ids = self._sending | self._receiving
        for stream_id in open_ids:
            self._transport.forget_stream(stream_id)
        for stream_id in open_ids | self._untaken | self._stopped.keys():
            self._table.stream_ended(stream_id)
        for ids in (self._sending, self._receiving, self._untaken, self._waiting):
            ids.clear()
        self._stopped.clear()
        self._table.session_ended(self.session_id)


class _Early:
    """What has come on a stream whose session is not open."""

    __slots__ = ("data", "is_last", "session_id")

    def __init__(self, session_id: int) -> None:
        self.session_id = session_id
        # Joined: a part may have one byte, and would take a hundred.
        self.data = bytearray()
        self.is_last = False

    def receive(self, data: bytes, is_last: bool) -> None:
        self.data += data
        self.is_last = is_last


class SessionTable:
    """Sort a connection's streams and datagrams by session.

    ``is_unanswered``: whether a stream has a request that has no answer yet.
    """

    __slots__ = (
        "_begun",
        "_early",
        "_is_unanswered",
        "_ordinary",
        "_sessions",
        "_stops",
        "_streams",
        "transport",
    )

    def __init__(
        self, transport: MultiplexTransport, is_unanswered: Callable[[int], bool]
    ) -> None:
        self.transport = transport
        self._is_unanswered = is_unanswered
        self._sessions: dict[int, Session] = {}
        self._streams: dict[int, Session] = {}
        self._begun: dict[int, bytes] = {}
        self._ordinary: set[int] = set()
        self._early: dict[int, _Early] = {}
        # Codes of STOP_SENDING for streams that are begun, early, or not even that.
        self._stops: dict[int, int] = {}

    @property
    def held_size(self) -> int:
        """Bytes of streams whose session is not open."""
        return sum(len(early.data) for early in self._early.values())

    def begin(self, session_id: int) -> None:
        """Deliver what came before the session was open."""
        for stream_id, early in [*self._early.items()]:
            if early.session_id == session_id:
                del self._early[stream_id]
                data = bytes(early.data)
                self._deliver(stream_id, session_id, data, early.is_last)

    def sort(self, stream_id: int, data: bytes, is_last: bool) -> bytes | None:
        """Take a session's bytes; return those of any other stream.

        None: there are none, or not enough to see whose they are. Raises HTTP3Error.
        """
        session = self._streams.get(stream_id)
        if session is not None:
            session.stream_received(stream_id, data, is_last)
        elif stream_id in self._early:
            self._early[stream_id].receive(data, is_last)
        elif stream_id in self._ordinary:
            if is_last:
                self._ordinary.discard(stream_id)
            return data
        else:
            return self._begin(stream_id, data, is_last)
        return None

    def stream_reset(self, stream_id: int, code: int) -> bool:
        """Tell a session of a reset; return whether the stream is one's."""
        self._begun.pop(stream_id, None)
        self._stops.pop(stream_id, None)
        self._ordinary.discard(stream_id)
        session = self._streams.get(stream_id)
        if session is not None:
            session.stream_reset(stream_id, code)
        elif stream_id in self._early:
            # The application has not seen it: nor does it see its end.
            del self._early[stream_id]
            if stream_id % 4 == 0:
                self.transport.reset_stream(stream_id, code)
            self.transport.forget_stream(stream_id)
        else:
            return False
        return True

    def stream_stopped(self, stream_id: int, code: int) -> bool:
        """Tell a session that the peer takes no more; return likewise."""
        session = self._streams.get(stream_id)
        if session is not None:
            session.stream_stopped(stream_id, code)
        elif stream_id % 4 == 0 and (
            stream_id in self._early
            or stream_id in self._begun
            or not self.transport.has_begun(stream_id)
        ):
            self._stops[stream_id] = code
        else:
            return False
        return True

    def datagram_received(self, data: bytes) -> None:
        """Hand a datagram to its session; one of no session is dropped.

        Raises HTTP3Error (RFC 9297 section 2.1).
        """
        found = frames.read_integer(data, 0)
        if found is None or found[0] >= 1 << 60:
            raise HTTP3Error("A datagram of no stream", ErrorCode.DATAGRAM_ERROR)
        session = self._sessions.get(found[0] * 4)
        if session is not None:
            session.datagram_received(data[found[1] :])

    def bytes_sent(self) -> None:
        """Tell each session that some of what waited has been sent."""
        for session in [*self._sessions.values()]:
            session.bytes_sent()

    def connect_ended(self, stream_id: int) -> None:
        """Refuse what waits for a session that will not be."""
        self._ordinary.discard(stream_id)
        for early_id, early in [*self._early.items()]:
            if early.session_id == stream_id:
                del self._early[early_id]
                self._reject(early_id, BUFFERED_STREAM_REJECTED)

    # The sessions call these.

    def session_began(self, session: Session) -> None:
        self._sessions[session.session_id] = session

    def stream_belongs(self, stream_id: int, session: Session) -> None:
        self._streams[stream_id] = session

    def stream_ended(self, stream_id: int) -> None:
        self._streams.pop(stream_id, None)

    def session_ended(self, session_id: int) -> None:
        self._sessions.pop(session_id, None)
        self.connect_ended(session_id)

    # Private.

    def _begin(self, stream_id: int, data: bytes, is_last: bool) -> bytes | None:
        data = self._begun.pop(stream_id, b"") + data
        kind = frames.read_integer(data, 0)
        is_unidirectional = stream_id % 4 == 2
        wanted = (
            frames.WEBTRANSPORT_STREAM
            if is_unidirectional
            else frames.WEBTRANSPORT_BIDIRECTIONAL
        )
        if kind is not None and kind[0] != wanted:
            if self._stops.pop(stream_id, None) is not None:
                # A request whose answer is not wanted.
                self._reject(stream_id, ErrorCode.REQUEST_CANCELLED)
                return None
            if not is_last:
                self._ordinary.add(stream_id)
            return data
        session_id = None if kind is None else frames.read_integer(data, kind[1])
        if session_id is None:
            if is_last:
                # Nothing that could be a request: the connection finds its words.
                return data
            self._begun[stream_id] = data
            return None
        number, end = session_id
        if number % 4:
            raise HTTP3Error(
                f"Stream {number} belongs to no session", ErrorCode.ID_ERROR
            )
        self.transport.acknowledge(stream_id, end)
        if number in self._sessions:
            self._deliver(stream_id, number, data[end:], is_last)
        elif self._is_over(number):
            self._reject(stream_id, SESSION_GONE)
        elif len(self._early) < EARLY_STREAM_LIMIT:
            self._early[stream_id] = early = _Early(number)
            early.receive(data[end:], is_last)
        else:
            self._reject(stream_id, BUFFERED_STREAM_REJECTED)
        return None

    def _is_over(self, session_id: int) -> bool:
        """Return whether a stream carries no session and cannot come to carry one."""
        return (
            self.transport.has_begun(session_id)
            and session_id not in self._begun
            and not self._is_unanswered(session_id)
        )

    def _deliver(
        self, stream_id: int, session_id: int, data: bytes, is_last: bool
    ) -> None:
        session = self._streams.get(stream_id)
        if session is None:
            session = self._sessions.get(session_id)
            if session is None:
                return
            if not session.takes_streams:
                self._reject(stream_id, BUFFERED_STREAM_REJECTED)
                return
            session.stream_began(stream_id)
        session.stream_received(stream_id, data, is_last)
        stop = self._stops.pop(stream_id, None)
        if stop is not None:
            session.stream_stopped(stream_id, stop)

    def _reject(self, stream_id: int, code: int) -> None:
        self._stops.pop(stream_id, None)
        if stream_id % 4 == 0:
            self.transport.reset_stream(stream_id, code)
        self.transport.stop_stream(stream_id, code)
        self.transport.forget_stream(stream_id)
