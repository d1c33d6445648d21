"""Bytes to what happens on a connection and its streams.

HEADERS, DATA, WINDOW_UPDATE and RST_STREAM in their plain form are read here, without
h2's frame and event objects (benchmark: http2_hello). h2 takes SETTINGS, PING,
CONTINUATION and all that is padded, and hands back what concerns a stream. h2 answers
any fault with the end of the connection; here what concerns one stream ends that stream
(RFC 9113 section 5.4.2), and the others are served on.
"""

# What one peer can cost, and what its faults end
#
# Three things keep a peer from making much work with few bytes. Each chunk is read up
# to ``_TURN_COST`` only, and the rest in the loop's next turns, behind other
# connections: a header block can name a field by its index in each of its bytes.
# ``h2.controls`` is spent by frames that are answered or that do nothing (PING,
# SETTINGS, empty DATA, what comes on streams that we have reset), and earned by
# requests. ``h2.resets`` is spent by each stream that ends without a response,
# whoever's reset it was: a peer that provokes our resets gains the same by it
# (CVE-2025-8671) as one that sends its own (CVE-2023-44487).
#
# A fault of one stream must not end the others, so every check here decides for one of
# three: ``_fail_stream`` (a reset), HTTP2Error (GOAWAY), or neither, for what crosses
# with a reset or a GOAWAY of ours and is no fault. Two things belong to the connection
# whatever happens to the stream, and are done before the stream is looked at:
#
# - Every header block is decoded, even one that is ignored. The decoder's table is a
#   state that both ends share, and a block that is left out makes all later ones wrong.
# - Every byte of DATA is taken off the connection's window, and given back if nothing
#   is to read it. Otherwise content on streams that have ended would close the window
#   for good, little by little.

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from h2.connection import ConnectionInputs
from h2.errors import ErrorCodes
from h2.events import PingAckReceived, RemoteSettingsChanged, SettingsAcknowledged
from h2.exceptions import FlowControlError
from h2.exceptions import ProtocolError as H2ProtocolError
from h2.settings import SettingCodes
from h2.utilities import guard_increment_window
from hyperframe.exceptions import InvalidPaddingError

from djserve.instrumentation.limits import note_limit
from djserve.protocols.http2 import frames
from djserve.protocols.http2.codec import WINDOW_LIMIT, FrameWriter, H2State
from djserve.protocols.http2.errors import HTTP2Error
from djserve.protocols.http2.request import check_trailers

if TYPE_CHECKING:
    from collections.abc import Callable

    from h2.events import Event

    from djserve.conf.schema import HTTP2Config, HTTPConfig
    from djserve.protocols.http2.request import Request
    from djserve.protocols.http2.state import StreamState

# A dozen settings are defined; each in a frame costs h2 more than a microsecond.
_SETTINGS_SIZE_LIMIT = 64 * frames.SETTING_SIZE

# What may be read at a time, as bytes of header blocks: each may be a field, and takes
# a third of a microsecond. A frame costs some bytes more, however little is in it.
_TURN_COST = 16 * 1024
_FRAME_COST = 10
_H2_FRAME_COST = 100
# A refusal costs fifty microseconds, and no application or stream limit slows it.
_REFUSAL_COST = 256

# Globals of the module are quicker to find (benchmark: http2_hello).
_HEADER_SIZE = frames.HEADER_SIZE
_END_STREAM, _HAS_PRIORITY = frames.END_STREAM, frames.HAS_PRIORITY
_FORM_FLAGS, _PLAIN_FORM = frames.PADDED | frames.END_HEADERS, frames.END_HEADERS
_unpack_header = frames.unpack_header

# RFC 9113 section 4.1: one bit of a stream's number is reserved.
_ID_BITS = 2**31 - 1

# RFC 9113 section 6.5.2 and RFC 8441 section 3.
_ANY = (0, 2**32 - 1, ErrorCodes.NO_ERROR)
_SETTING_RANGES: dict[int, tuple[int, int, ErrorCodes]] = {
    SettingCodes.ENABLE_PUSH: (0, 1, ErrorCodes.PROTOCOL_ERROR),
    SettingCodes.INITIAL_WINDOW_SIZE: (
        0,
        WINDOW_LIMIT,
        ErrorCodes.FLOW_CONTROL_ERROR,
    ),
    SettingCodes.MAX_FRAME_SIZE: (16384, 2**24 - 1, ErrorCodes.PROTOCOL_ERROR),
    SettingCodes.ENABLE_CONNECT_PROTOCOL: (0, 1, ErrorCodes.PROTOCOL_ERROR),
}


class StreamEvents(Protocol):
    """Who hears what happens on the streams, in the order of the frames."""

    def request_received(
        self, stream_id: int, request: Request, is_complete: bool, /
    ) -> None:
        """The stream is put among h2's, unless it is refused."""

    def content_received(self, stream_id: int, data: bytes, credit: int, /) -> None:
        """Content, or its end if no more may be received.

        ``credit`` is what ``data`` took of the windows, padding included.
        """

    def stream_reset(self, stream_id: int, code: int, /) -> None: ...
    def window_opened(self, stream_id: int, /) -> None:
        """The peer takes more on a stream, or with 0 on any."""

    def priority_updated(self, stream_id: int, value: bytes, /) -> None: ...
    def settings_changed(self) -> None: ...
    def settings_acknowledged(self) -> None: ...
    def ping_acknowledged(self, data: bytes, /) -> None: ...
    def going_away(self) -> None:
        """The peer opens no more streams, and wants none pushed."""


class FrameReader:
    """Read the peer's frames and call ``events`` (codec.FrameHooks)."""

    __slots__ = (
        "_block_size",
        "_block_size_limit",
        "_events",
        "_fragment_limit",
        "_fragments",
        "_h2",
        "_is_first_frame",
        "_left",
        "_preface",
        "_rest",
        "_stream_limit",
        "_writer",
    )

    def __init__(
        self,
        h2: H2State,
        writer: FrameWriter,
        events: StreamEvents,
        http: HTTPConfig,
        config: HTTP2Config,
    ) -> None:
        self._h2 = h2
        self._writer = writer
        self._events = events
        self._stream_limit = config.http2_stream_limit
        self._block_size_limit = http.header_size_limit
        self._fragment_limit = config.http2_fragment_limit
        self._fragments = 0
        self._block_size = 0
        self._rest = b""
        self._left = _TURN_COST
        self._preface = frames.PREFACE
        self._is_first_frame = True
        h2.hooks = self

    @property
    def is_in_block(self) -> bool:
        """Whether a request's head has begun and is not complete."""
        return bool(self._h2.incoming_buffer._headers_buffer)

    @property
    def is_in_frame(self) -> bool:
        """Whether a part of a frame, or of the preface, has come."""
        return (bool(self._rest) and self._left > 0) or self._is_first_frame

    @property
    def held_size(self) -> int:
        """Bytes that have come and are not read yet."""
        return len(self._rest)

    def receive(self, data: bytes) -> bool:
        """Take bytes from the peer, and what is left of those before.

        Returns whether there is more than may be read at a time: ``receive`` nothing
        then. Raises HTTP2Error for the connection.
        """
        self._left = _TURN_COST
        if self._preface:
            data = self._take_preface(data)
        position = 0
        if self._rest:
            position = self._missing_size()
            if 0 < position <= len(data):
                # Only the frame that was cut is put together, not all that came.
                self._take_frames(self._rest + data[:position], 0)
            else:
                data = self._rest + data
                position = 0
        self._take_frames(data, position)
        return self._left <= 0 and bool(self._rest)

    def charge_refusal(self) -> None:
        """Count that what has just been read was refused."""
        self._left -= _REFUSAL_COST

    def _missing_size(self) -> int:
        """Return what a frame that was cut still needs, 0 if its header is cut."""
        if len(self._rest) < frames.HEADER_SIZE:
            return 0
        high, low, *_ = frames.unpack_header(self._rest)
        size: int = frames.HEADER_SIZE + (high << 16 | low)
        return size - len(self._rest)

    def _take_frames(self, data: bytes, position: int) -> None:
        """Take the whole frames from ``position`` on; what is left waits."""
        h2, find_taker = self._h2, self._TAKERS.get
        end = len(data)
        try:
            while end - position >= _HEADER_SIZE and self._left > 0:
                self._left -= _FRAME_COST
                high, low, kind, flags, stream_id = _unpack_header(data, position)
                length = high << 16 | low
                if length > h2.max_inbound_frame_size:
                    raise HTTP2Error(
                        f"A frame of {length} bytes", ErrorCodes.FRAME_SIZE_ERROR
                    )
                start = position + _HEADER_SIZE
                after = start + length
                if after > end:
                    break
                take = find_taker(kind, FrameReader._take_unknown)
                if (
                    h2.incoming_buffer._headers_buffer
                    or self._is_first_frame
                    or not take(self, flags, stream_id & _ID_BITS, data[start:after])
                ):
                    self._take_by_h2(kind, flags, data[position:after])
                position = after
        except InvalidPaddingError as error:
            raise HTTP2Error("More padding than content") from error
        except H2ProtocolError as error:
            code = ErrorCodes(error.error_code)
            raise HTTP2Error(str(error) or type(error).__name__, code) from error
        finally:
            self._rest = data[position:]

    def _take_preface(self, data: bytes) -> bytes:
        expected = self._preface[: len(data)]
        if not data.startswith(expected):
            raise HTTP2Error("The connection does not begin with the preface")
        self._preface = self._preface[len(expected) :]
        return data[len(expected) :]

    # Frames, by type: each takes a frame's payload, or returns False to leave it to h2.

    def _take_headers(self, flags: int, stream_id: int, payload: bytes) -> bool:
        if flags & _FORM_FLAGS != _PLAIN_FORM:
            _check_padding(flags, payload)
            return False
        if flags & _HAS_PRIORITY:
            # RFC 9113 section 5.3: the old priorities mean nothing any more.
            if len(payload) < 5:
                return False
            payload = payload[5:]
        self.block_received(stream_id, payload, flags & _END_STREAM != 0)
        return True

    def _take_data(self, flags: int, stream_id: int, payload: bytes) -> bool:
        if flags & frames.PADDED or not stream_id:
            return False
        self.content_received(
            stream_id, payload, len(payload), bool(flags & frames.END_STREAM)
        )
        return True

    def _take_reset(self, flags: int, stream_id: int, payload: bytes) -> bool:
        if len(payload) != 4 or not stream_id:
            return False
        self._h2.resets.spend()
        state = self._find(stream_id)
        if state is not None:
            state.close()
            self._events.stream_reset(stream_id, frames.unpack_number(payload)[0])
        return True

    def _take_window_update(self, flags: int, stream_id: int, payload: bytes) -> bool:
        if len(payload) != 4:
            return False
        self._h2.controls.spend()
        increment = frames.unpack_number(payload)[0] & WINDOW_LIMIT
        if not stream_id:
            return self._open_connection_window(increment)
        state = self._find(stream_id)
        if state is None:
            return True
        if not increment:
            self._fail_stream(state, ErrorCodes.PROTOCOL_ERROR)
            return True
        try:
            state.outbound_flow_control_window = guard_increment_window(
                state.outbound_flow_control_window, increment
            )
        except FlowControlError:
            self._fail_stream(state, ErrorCodes.FLOW_CONTROL_ERROR)
        else:
            self._events.window_opened(stream_id)
        return True

    def _open_connection_window(self, increment: int) -> bool:
        if not increment:
            raise HTTP2Error("A window update of nothing")
        self._h2.outbound_flow_control_window = guard_increment_window(
            self._h2.outbound_flow_control_window, increment
        )
        self._events.window_opened(0)
        return True

    def _take_priority(self, flags: int, stream_id: int, payload: bytes) -> bool:
        """Check an old priority's form and ignore it (RFC 9113 section 6.3)."""
        self._h2.controls.spend()
        if not stream_id:
            raise HTTP2Error("PRIORITY without a stream")
        if len(payload) != 5:
            state = self._h2.streams.get(stream_id)
            if state is None:
                raise HTTP2Error("Malformed PRIORITY", ErrorCodes.FRAME_SIZE_ERROR)
            self._fail_stream(state, ErrorCodes.FRAME_SIZE_ERROR)
        return True

    def _take_priority_update(self, flags: int, stream_id: int, payload: bytes) -> bool:
        """RFC 9218 section 7.1."""
        self._h2.controls.spend()
        if stream_id:
            raise HTTP2Error("PRIORITY_UPDATE on a stream")
        if len(payload) < 4:
            raise HTTP2Error("Malformed PRIORITY_UPDATE", ErrorCodes.FRAME_SIZE_ERROR)
        prioritized = frames.unpack_number(payload)[0] & WINDOW_LIMIT
        if not prioritized:
            raise HTTP2Error("PRIORITY_UPDATE for no stream")
        if prioritized % 2 == 0 and prioritized > self._h2.highest_outbound_stream_id:
            raise HTTP2Error("PRIORITY_UPDATE for a push that was not promised")
        self._events.priority_updated(prioritized, payload[4:])
        return True

    def _take_goaway(self, flags: int, stream_id: int, payload: bytes) -> bool:
        """Tell of it; h2 would not let the streams under way be answered any more."""
        if stream_id:
            raise HTTP2Error("GOAWAY on a stream")
        if len(payload) < 8:
            raise HTTP2Error("Malformed GOAWAY", ErrorCodes.FRAME_SIZE_ERROR)
        self._h2.controls.spend()
        self._events.going_away()
        return True

    def _take_continuation(self, flags: int, stream_id: int, payload: bytes) -> bool:
        """Refuse it; within a block it is not asked for (RFC 9113 section 6.10)."""
        raise HTTP2Error("CONTINUATION without a block")

    def _take_unknown(self, flags: int, stream_id: int, payload: bytes) -> bool:
        """Ignore it (RFC 9113 section 5.5)."""
        self._h2.controls.spend()
        return True

    def _leave_to_h2(self, flags: int, stream_id: int, payload: bytes) -> bool:
        return False

    _TAKERS: ClassVar[dict[int, Callable[[FrameReader, int, int, bytes], bool]]] = {
        frames.DATA: _take_data,
        frames.HEADERS: _take_headers,
        frames.PRIORITY: _take_priority,
        frames.RST_STREAM: _take_reset,
        frames.SETTINGS: _leave_to_h2,
        frames.PUSH_PROMISE: _leave_to_h2,
        frames.PING: _leave_to_h2,
        frames.GOAWAY: _take_goaway,
        frames.WINDOW_UPDATE: _take_window_update,
        frames.CONTINUATION: _take_continuation,
        frames.PRIORITY_UPDATE: _take_priority_update,
    }

    # The long way, and what it calls here.

    def _take_by_h2(self, kind: int, flags: int, frame: bytes) -> None:
        if self._is_first_frame:
            # RFC 9113 section 3.4.
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise HTTP2Error("The first frame is not SETTINGS")
            self._is_first_frame = False
        self._left -= _H2_FRAME_COST
        if kind in (frames.SETTINGS, frames.PING):
            self._h2.controls.spend()
            if kind == frames.SETTINGS:
                # A changed window is every stream's.
                self._left -= _FRAME_COST * len(self._h2.streams)
                _check_settings(flags, frame[frames.HEADER_SIZE :])
        elif self.is_in_block:
            self._count_fragment(len(frame))
        buffer = self._h2.incoming_buffer
        buffer.max_frame_size = self._h2.max_inbound_frame_size
        buffer.add_data(frame)
        for parsed in buffer:
            for event in self._h2._receive_frame(parsed):
                self._tell(event)
        if not self.is_in_block:
            self._fragments = self._block_size = 0

    def _count_fragment(self, size: int) -> None:
        """Bound what a head may take in CONTINUATION frames (CVE-2024-27316's kind)."""
        self._fragments += 1
        self._block_size += size
        if (
            self._fragments > self._fragment_limit
            or self._block_size > self._block_size_limit
        ):
            raise HTTP2Error(
                "A head in too many parts",
                ErrorCodes.ENHANCE_YOUR_CALM,
                setting=(
                    "HTTP2_FRAGMENT_LIMIT"
                    if self._fragments > self._fragment_limit
                    else "HEADER_SIZE_LIMIT"
                ),
            )

    def _tell(self, event: Event) -> None:
        if isinstance(event, RemoteSettingsChanged):
            self._h2.note_settings()
            self._events.settings_changed()
        elif isinstance(event, SettingsAcknowledged):
            self._events.settings_acknowledged()
        elif isinstance(event, PingAckReceived):
            self._events.ping_acknowledged(event.ping_data)

    # What happens on a stream, from whole header blocks and pieces of content.

    def _find(self, stream_id: int) -> StreamState | None:
        """Return a stream, None if it has ended; idle ones have nothing to get.

        RFC 9113 section 6.8: what comes on those that GOAWAY has left out is ignored.
        """
        state = self._h2.streams.get(stream_id)
        if state is None:
            highest = (
                self._h2.highest_inbound_stream_id
                if stream_id % 2
                else self._h2.highest_outbound_stream_id
            )
            if highest < stream_id <= self._h2.last_stream_id:
                raise HTTP2Error(f"A frame on the idle stream {stream_id}")
        return state

    def block_received(self, stream_id: int, block: bytes, is_complete: bool) -> None:
        self._left -= len(block)
        h2 = self._h2
        if stream_id % 2 == 0 or stream_id <= h2.highest_inbound_stream_id:
            self._later_block_received(stream_id, block, is_complete)
            return
        if stream_id > h2.last_stream_id:
            # RFC 9113 section 6.8: after GOAWAY they are ignored, but for the context.
            h2.decoder.decode_fields(block)
            h2.controls.spend()
            return
        if not h2.highest_inbound_stream_id:
            h2.state_machine.process_input(ConnectionInputs.RECV_HEADERS)
        h2.highest_inbound_stream_id = stream_id
        try:
            request = h2.decoder.decode_request(block)
        except HTTP2Error as error:
            if not error.stream_id:
                raise
            self._refuse_stream(stream_id, error.code)
            return
        if len(h2.streams) >= self._stream_limit:
            note_limit("HTTP2_STREAM_LIMIT")
            self._refuse_stream(stream_id, ErrorCodes.REFUSED_STREAM)
        elif is_complete and request.content_length:
            self._refuse_stream(stream_id, ErrorCodes.PROTOCOL_ERROR)
        else:
            self._events.request_received(stream_id, request, is_complete)

    def _later_block_received(
        self, stream_id: int, block: bytes, is_complete: bool
    ) -> None:
        """Take a block that begins no stream: trailers, or a fault."""
        state = self._h2.streams.get(stream_id)
        if state is not None:
            self._trailers_received(state, block, is_complete)
        elif not stream_id:
            raise HTTP2Error("HEADERS without a stream")
        elif stream_id > self._h2.highest_inbound_stream_id:
            raise HTTP2Error("A client's stream has an odd number")
        elif stream_id in self._h2.reset_by_us:
            # What the peer sent before it knew; it belongs to the shared context.
            self._h2.decoder.decode_fields(block)
            self._h2.controls.spend()
        else:
            raise HTTP2Error(
                f"HEADERS on the ended stream {stream_id}", ErrorCodes.STREAM_CLOSED
            )

    def _trailers_received(
        self, state: StreamState, block: bytes, is_complete: bool
    ) -> None:
        fields = self._h2.decoder.decode_fields(block)
        if not state.may_receive:
            self._refuse_late(state)
            return
        try:
            check_trailers(fields)
        except HTTP2Error as error:
            self._fail_stream(state, error.code)
            return
        if not is_complete:
            self._fail_stream(state, ErrorCodes.PROTOCOL_ERROR)
            return
        self._end_content(state, b"", 0)

    def content_received(
        self, stream_id: int, data: bytes, credit: int, is_complete: bool
    ) -> None:
        if not credit and not is_complete:
            self._h2.controls.spend()
        state = self._find(stream_id)
        self._h2._inbound_flow_control_window_manager.window_consumed(credit)
        if state is None:
            self._late_content(stream_id, credit)
            return
        if not state.may_receive:
            self._writer.acknowledge(credit)
            self._refuse_late(state)
            return
        try:
            state.consume(credit, self._h2.stream_window)
        except FlowControlError:
            self._writer.acknowledge(credit)
            self._fail_stream(state, ErrorCodes.FLOW_CONTROL_ERROR)
            return
        state.received_size += len(data)
        expected = state.expected_size
        if expected is not None and (
            state.received_size > expected
            or (is_complete and state.received_size < expected)
        ):
            # RFC 9113 section 8.1.1.
            self._writer.acknowledge(credit)
            self._fail_stream(state, ErrorCodes.PROTOCOL_ERROR)
        elif is_complete:
            self._end_content(state, data, credit)
        else:
            self._events.content_received(stream_id, data, credit)

    def _refuse_late(self, state: StreamState) -> None:
        """Fail a stream that takes no more, or the connection for a promised one.

        RFC 9113 section 5.1, half-closed (remote) and reserved (local).
        """
        if state.is_reserved:
            raise HTTP2Error(f"A request on the promised stream {state.stream_id}")
        self._fail_stream(state, ErrorCodes.STREAM_CLOSED)

    def _end_content(self, state: StreamState, data: bytes, credit: int) -> None:
        expected = state.expected_size
        if expected is not None and state.received_size != expected:
            self._fail_stream(state, ErrorCodes.PROTOCOL_ERROR)
            return
        state.may_receive = False
        self._events.content_received(state.stream_id, data, credit)

    def _late_content(self, stream_id: int, credit: int) -> None:
        if stream_id > self._h2.last_stream_id or stream_id in self._h2.reset_by_us:
            self._writer.acknowledge(credit)
        else:
            raise HTTP2Error(
                f"DATA on the ended stream {stream_id}", ErrorCodes.STREAM_CLOSED
            )

    def _fail_stream(self, state: StreamState, code: ErrorCodes) -> None:
        """Reset a stream for the peer's fault, which may be what it is after.

        CVE-2025-8671: resets that the server is made to send count like the peer's.
        """
        self._h2.resets.spend()
        self.charge_refusal()
        self._writer.reset(state, code)
        self._events.stream_reset(state.stream_id, code)

    def _refuse_stream(self, stream_id: int, code: ErrorCodes) -> None:
        """Reset a stream that has just begun; it counts like any other."""
        self._h2.resets.spend()
        self.charge_refusal()
        self._writer.refuse(stream_id, code)


def _check_padding(flags: int, payload: bytes) -> None:
    """Refuse padding that exceeds what the priority leaves (RFC 9113 section 6.2).

    hyperframe takes it off the priority.
    """
    if flags & frames.PADDED and flags & frames.HAS_PRIORITY:
        if len(payload) < 6:
            raise HTTP2Error("Malformed HEADERS", ErrorCodes.FRAME_SIZE_ERROR)
        if payload[0] > len(payload) - 6:
            raise InvalidPaddingError


def _check_settings(flags: int, payload: bytes) -> None:
    if flags & frames.ACK and payload:
        raise HTTP2Error(
            "An acknowledgement with settings", ErrorCodes.FRAME_SIZE_ERROR
        )
    if len(payload) > _SETTINGS_SIZE_LIMIT:
        raise HTTP2Error("Too many settings", ErrorCodes.ENHANCE_YOUR_CALM)
    # hyperframe keeps the last of two values alone, and each has to be judged.
    for position in range(0, len(payload) - 5, frames.SETTING_SIZE):
        code, value = frames.unpack_setting(payload, position)
        least, most, error = _SETTING_RANGES.get(code, _ANY)
        if not least <= value <= most:
            raise HTTP2Error(f"The setting {code} is {value}", error)
