"""Bytes <-> what happens on streams: h2's connection, with a short way for the usual.

h2 keeps the settings, the windows, each stream's state machine and HPACK, and takes
every frame that is rare or padded. HEADERS, DATA, WINDOW_UPDATE and RST_STREAM as they
nearly always come are read here without h2's frame and event objects (benchmark:
http2_hello). h2 answers any fault with the end of the connection; here what concerns
one stream ends that stream (RFC 9113 section 5.4.2). This is the only module that
reaches into h2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection
from h2.errors import ErrorCodes
from h2.events import PingAckReceived, RemoteSettingsChanged, SettingsAcknowledged
from h2.exceptions import FlowControlError
from h2.exceptions import ProtocolError as H2ProtocolError
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings
from h2.stream import H2Stream, StreamInputs, StreamState
from h2.utilities import guard_increment_window

from djserve.protocols.http2 import frames
from djserve.protocols.http2.blocks import BlockDecoder, BlockEncoder
from djserve.protocols.http2.faults import Allowance, HTTP2Error
from djserve.protocols.http2.request import check_trailers

if TYPE_CHECKING:
    from collections.abc import Callable

    from h2.events import Event
    from hyperframe.frame import DataFrame, Frame, HeadersFrame, SettingsFrame

    from djserve.conf.schema import HTTP2Config, HTTPConfig
    from djserve.protocols.http2.request import Request

_CONFIGURATION = H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)

# RFC 9113 section 6.9.1.
WINDOW_LIMIT = 2**31 - 1

# Streams that we have reset and whose late frames are therefore no fault of the peer's.
_RESETS_REMEMBERED = 512

_KNOWN_SETTINGS = frozenset(SettingCodes)

_RECEIVING = (StreamState.OPEN, StreamState.HALF_CLOSED_LOCAL)


class StreamEvents(Protocol):
    """Who hears what happens on the streams, in the order of the frames."""

    def request_received(
        self, state: H2Stream, request: Request, is_complete: bool, /
    ) -> None: ...
    def content_received(
        self, stream_id: int, data: bytes, credit: int, is_complete: bool, /
    ) -> None:
        """``credit`` is what ``data`` took of the windows, padding included."""

    def stream_reset(self, stream_id: int, code: int, /) -> None: ...
    def window_opened(self, stream_id: int, /) -> None:
        """The peer takes more on a stream, or with 0 on any."""

    def priority_updated(self, stream_id: int, value: bytes, /) -> None: ...
    def settings_changed(self) -> None: ...
    def settings_acknowledged(self) -> None: ...
    def ping_acknowledged(self, data: bytes, /) -> None: ...
    def going_away(self) -> None:
        """The peer opens no more streams, and wants none pushed."""


class FrameCodec(H2Connection):
    """The server's end of one HTTP/2 connection, without its transport.

    ``receive`` takes bytes and calls ``events``; ``take_output`` returns what is to be
    sent. ``resets`` and ``controls`` are what the peer may still do for nothing.
    """

    streams: dict[int, H2Stream]

    def __init__(
        self, events: StreamEvents, http: HTTPConfig, config: HTTP2Config
    ) -> None:
        super().__init__(_CONFIGURATION)
        self._events = events
        self.decoder: BlockDecoder = BlockDecoder(http)
        self.encoder: BlockEncoder = BlockEncoder()
        self.resets = Allowance("stream resets", config.http2_reset_limit)
        self.controls = Allowance("control frames", config.http2_control_frame_limit)
        self._block_size_limit = http.header_size_limit
        self._fragment_limit = config.http2_fragment_limit
        self._fragments = 0
        self._block_size = 0
        self._reset_by_us: dict[int, None] = {}
        self._rest = b""
        self._preface = frames.PREFACE
        self._is_first_frame = True
        self.stream_limit = config.http2_stream_limit
        self._connection_window = config.http2_connection_window_size
        self.incoming_buffer = FrameBuffer(server=False)
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: config.http2_stream_limit,
                SettingCodes.MAX_HEADER_LIST_SIZE: http.header_size_limit,
                SettingCodes.INITIAL_WINDOW_SIZE: min(
                    config.http2_stream_window_size, WINDOW_LIMIT
                ),
                SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
            },
        )
        self.last_stream_id = WINDOW_LIMIT
        """Streams above this one are ignored: a GOAWAY has named it (section 6.8)."""

    # Bytes in.

    def start(self) -> None:
        """Make the server's preface: SETTINGS and the connection's window."""
        self.initiate_connection()
        increment = min(self._connection_window, WINDOW_LIMIT) - 65535
        if increment > 0:
            self.increment_flow_control_window(increment)

    @property
    def is_in_block(self) -> bool:
        """Whether a request's head has begun and is not complete."""
        return bool(self.incoming_buffer._headers_buffer)

    @property
    def is_in_frame(self) -> bool:
        """Whether a part of a frame, or of the preface, has come."""
        return bool(self._rest) or self._is_first_frame

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer. Raises HTTP2Error for the connection."""
        if self._preface:
            data = self._take_preface(data)
        if self._rest:
            data = self._rest + data
        position = 0
        end = len(data)
        try:
            while end - position >= frames.HEADER_SIZE:
                high, low, kind, flags, stream_id = frames.unpack_header(data, position)
                length = high << 16 | low
                if length > self.max_inbound_frame_size:
                    raise HTTP2Error(
                        f"A frame of {length} bytes", ErrorCodes.FRAME_SIZE_ERROR
                    )
                start = position + frames.HEADER_SIZE
                if end - start < length:
                    break
                after = start + length
                stream_id &= 0x7FFFFFFF
                take = self._TAKERS.get(kind, FrameCodec._take_unknown)
                if (
                    self.incoming_buffer._headers_buffer
                    or self._is_first_frame
                    or not take(self, flags, stream_id, data[start:after])
                ):
                    self._take_by_h2(kind, flags, data[position:after])
                position = after
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
        if flags & (frames.PADDED | frames.END_HEADERS) != frames.END_HEADERS:
            return False
        if flags & frames.HAS_PRIORITY:
            # RFC 9113 section 5.3: the old priorities mean nothing any more.
            if len(payload) < 5:
                return False
            payload = payload[5:]
        self._block_received(stream_id, payload, bool(flags & frames.END_STREAM))
        return True

    def _take_data(self, flags: int, stream_id: int, payload: bytes) -> bool:
        if flags & frames.PADDED or not stream_id:
            return False
        self._content_received(
            stream_id, payload, len(payload), bool(flags & frames.END_STREAM)
        )
        return True

    def _take_reset(self, flags: int, stream_id: int, payload: bytes) -> bool:
        if len(payload) != 4 or not stream_id:
            return False
        self.resets.spend()
        state = self._find(stream_id)
        if state is not None:
            state.state_machine.process_input(StreamInputs.RECV_RST_STREAM)
            del self.streams[stream_id]
            self._events.stream_reset(stream_id, frames.unpack_number(payload)[0])
        return True

    def _take_window_update(self, flags: int, stream_id: int, payload: bytes) -> bool:
        if len(payload) != 4:
            return False
        self.controls.spend()
        increment = frames.unpack_number(payload)[0] & WINDOW_LIMIT
        if not stream_id:
            return self._open_connection_window(increment)
        state = self._find(stream_id)
        if state is None:
            return True
        if not increment:
            self.fail_stream(stream_id, ErrorCodes.PROTOCOL_ERROR)
            return True
        try:
            state.outbound_flow_control_window = guard_increment_window(
                state.outbound_flow_control_window, increment
            )
        except FlowControlError:
            self.fail_stream(stream_id, ErrorCodes.FLOW_CONTROL_ERROR)
        else:
            self._events.window_opened(stream_id)
        return True

    def _open_connection_window(self, increment: int) -> bool:
        if not increment:
            raise HTTP2Error("A window update of nothing")
        self.outbound_flow_control_window = guard_increment_window(
            self.outbound_flow_control_window, increment
        )
        self._events.window_opened(0)
        return True

    def _take_priority(self, flags: int, stream_id: int, payload: bytes) -> bool:
        """Check an old priority's form and ignore it (RFC 9113 section 6.3)."""
        self.controls.spend()
        if not stream_id:
            raise HTTP2Error("PRIORITY without a stream")
        if len(payload) != 5:
            if stream_id in self.streams:
                self.fail_stream(stream_id, ErrorCodes.FRAME_SIZE_ERROR)
            else:
                raise HTTP2Error("Malformed PRIORITY", ErrorCodes.FRAME_SIZE_ERROR)
        return True

    def _take_priority_update(self, flags: int, stream_id: int, payload: bytes) -> bool:
        """RFC 9218 section 7.1."""
        self.controls.spend()
        if stream_id:
            raise HTTP2Error("PRIORITY_UPDATE on a stream")
        if len(payload) < 4:
            raise HTTP2Error("Malformed PRIORITY_UPDATE", ErrorCodes.FRAME_SIZE_ERROR)
        prioritized = frames.unpack_number(payload)[0] & WINDOW_LIMIT
        if not prioritized:
            raise HTTP2Error("PRIORITY_UPDATE for no stream")
        if prioritized % 2 == 0 and prioritized > self.highest_outbound_stream_id:
            raise HTTP2Error("PRIORITY_UPDATE for a push that was not promised")
        self._events.priority_updated(prioritized, payload[4:])
        return True

    def _take_goaway(self, flags: int, stream_id: int, payload: bytes) -> bool:
        """Take note; h2 would not let the streams under way be answered any more."""
        if stream_id:
            raise HTTP2Error("GOAWAY on a stream")
        if len(payload) < 8:
            raise HTTP2Error("Malformed GOAWAY", ErrorCodes.FRAME_SIZE_ERROR)
        self.controls.spend()
        self._events.going_away()
        return True

    def _take_unknown(self, flags: int, stream_id: int, payload: bytes) -> bool:
        """Ignore it (RFC 9113 section 5.5)."""
        self.controls.spend()
        return True

    def _leave_to_h2(self, flags: int, stream_id: int, payload: bytes) -> bool:
        return False

    _TAKERS: ClassVar[dict[int, Callable[[FrameCodec, int, int, bytes], bool]]] = {
        frames.DATA: _take_data,
        frames.HEADERS: _take_headers,
        frames.PRIORITY: _take_priority,
        frames.RST_STREAM: _take_reset,
        frames.SETTINGS: _leave_to_h2,
        frames.PUSH_PROMISE: _leave_to_h2,
        frames.PING: _leave_to_h2,
        frames.GOAWAY: _take_goaway,
        frames.WINDOW_UPDATE: _take_window_update,
        frames.CONTINUATION: _leave_to_h2,
        frames.PRIORITY_UPDATE: _take_priority_update,
    }

    # The long way, and what it calls here.

    def _take_by_h2(self, kind: int, flags: int, frame: bytes) -> None:
        if self._is_first_frame:
            # RFC 9113 section 3.4.
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise HTTP2Error("The first frame is not SETTINGS")
            self._is_first_frame = False
        if kind in (frames.SETTINGS, frames.PING):
            self.controls.spend()
        elif self.is_in_block:
            self._count_fragment(len(frame))
        buffer = self.incoming_buffer
        buffer.max_frame_size = self.max_inbound_frame_size
        buffer.add_data(frame)
        for parsed in buffer:
            for event in self._receive_frame(parsed):
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
            raise HTTP2Error("A head in too many parts", ErrorCodes.ENHANCE_YOUR_CALM)

    def _tell(self, event: Event) -> None:
        if isinstance(event, RemoteSettingsChanged):
            self._events.settings_changed()
        elif isinstance(event, SettingsAcknowledged):
            self._events.settings_acknowledged()
        elif isinstance(event, PingAckReceived):
            self._events.ping_acknowledged(event.ping_data)

    def _receive_settings_frame(
        self, frame: SettingsFrame
    ) -> tuple[list[Frame], list[Event]]:
        # h2 keeps every setting it hears of, of which there are 65,536.
        for setting in [key for key in frame.settings if key not in _KNOWN_SETTINGS]:
            del frame.settings[setting]
        return super()._receive_settings_frame(frame)

    def _receive_headers_frame(
        self, frame: HeadersFrame
    ) -> tuple[list[Frame], list[Event]]:
        self._block_received(
            frame.stream_id, bytes(frame.data), "END_STREAM" in frame.flags
        )
        return [], []

    def _receive_data_frame(self, frame: DataFrame) -> tuple[list[Frame], list[Event]]:
        self._content_received(
            frame.stream_id,
            bytes(frame.data),
            frame.flow_controlled_length,
            "END_STREAM" in frame.flags,
        )
        return [], []

    # Streams.

    def _find(self, stream_id: int) -> H2Stream | None:
        """Return a stream, None where it has ended; idle ones have nothing to get."""
        state = self.streams.get(stream_id)
        if state is None:
            highest = (
                self.highest_inbound_stream_id
                if stream_id % 2
                else self.highest_outbound_stream_id
            )
            if stream_id > highest:
                raise HTTP2Error(f"A frame on the idle stream {stream_id}")
        return state

    def _block_received(self, stream_id: int, block: bytes, is_complete: bool) -> None:
        state = self.streams.get(stream_id)
        if state is not None:
            self._trailers_received(state, block, is_complete)
        elif stream_id > self.highest_inbound_stream_id:
            self._request_received(stream_id, block, is_complete)
        elif stream_id in self._reset_by_us:
            # What the peer sent before it knew; it belongs to the shared context.
            self.decoder.decode_fields(block)
            self.controls.spend()
        else:
            raise HTTP2Error(
                f"HEADERS on the ended stream {stream_id}", ErrorCodes.STREAM_CLOSED
            )

    def _request_received(
        self, stream_id: int, block: bytes, is_complete: bool
    ) -> None:
        if stream_id % 2 == 0:
            raise HTTP2Error("A client's stream has an odd number")
        if stream_id > self.last_stream_id:
            # RFC 9113 section 6.8: after GOAWAY they are ignored, but for the context.
            self.decoder.decode_fields(block)
            self.controls.spend()
            return
        if not self.highest_inbound_stream_id:
            self.state_machine.process_input(ConnectionInputs.RECV_HEADERS)
        self.highest_inbound_stream_id = stream_id
        state = H2Stream(
            stream_id,
            _CONFIGURATION,
            self.local_settings.initial_window_size,
            self.remote_settings.initial_window_size,
        )
        state.max_outbound_frame_size = self.max_outbound_frame_size
        state.state_machine.process_input(StreamInputs.RECV_HEADERS)
        if is_complete:
            state.state_machine.process_input(StreamInputs.RECV_END_STREAM)
        is_refused = len(self.streams) >= self.stream_limit
        self.streams[stream_id] = state
        try:
            request = self.decoder.decode_request(block)
        except HTTP2Error as error:
            if not error.stream_id:
                raise
            self.fail_stream(stream_id, error.code)
            return
        if is_refused:
            self.fail_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        if is_complete and request.content_length:
            self.fail_stream(stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        state._expected_content_length = request.content_length
        self._events.request_received(state, request, is_complete)

    def _trailers_received(
        self, state: H2Stream, block: bytes, is_complete: bool
    ) -> None:
        fields = self.decoder.decode_fields(block)
        if state.state_machine.state not in _RECEIVING:
            self.fail_stream(state.stream_id, ErrorCodes.STREAM_CLOSED)
            return
        try:
            check_trailers(fields)
        except HTTP2Error as error:
            self.fail_stream(state.stream_id, error.code)
            return
        if not is_complete:
            self.fail_stream(state.stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        self._end_content(state, b"", 0)

    def _content_received(
        self, stream_id: int, data: bytes, credit: int, is_complete: bool
    ) -> None:
        if not credit and not is_complete:
            self.controls.spend()
        state = self._find(stream_id)
        self._inbound_flow_control_window_manager.window_consumed(credit)
        if state is None:
            self._late_content(stream_id, credit)
            return
        machine = state.state_machine
        if machine.state not in _RECEIVING:
            self.acknowledge(credit)
            self.fail_stream(stream_id, ErrorCodes.STREAM_CLOSED)
            return
        try:
            state._inbound_window_manager.window_consumed(credit)
        except FlowControlError:
            self.acknowledge(credit)
            self.fail_stream(stream_id, ErrorCodes.FLOW_CONTROL_ERROR)
            return
        state._actual_content_length += len(data)
        expected = state._expected_content_length
        if expected is not None and (
            state._actual_content_length > expected
            or (is_complete and state._actual_content_length < expected)
        ):
            # RFC 9113 section 8.1.1.
            self.acknowledge(credit)
            self.fail_stream(stream_id, ErrorCodes.PROTOCOL_ERROR)
        elif is_complete:
            self._end_content(state, data, credit)
        else:
            self._events.content_received(stream_id, data, credit, False)

    def _end_content(self, state: H2Stream, data: bytes, credit: int) -> None:
        expected = state._expected_content_length
        if expected is not None and state._actual_content_length != expected:
            self.fail_stream(state.stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        state.state_machine.process_input(StreamInputs.RECV_END_STREAM)
        self._events.content_received(state.stream_id, data, credit, True)
        self._forget_closed(state)

    def _late_content(self, stream_id: int, credit: int) -> None:
        if stream_id > self.last_stream_id or stream_id in self._reset_by_us:
            self.acknowledge(credit)
        else:
            raise HTTP2Error(
                f"DATA on the ended stream {stream_id}", ErrorCodes.STREAM_CLOSED
            )

    def fail_stream(self, stream_id: int, code: ErrorCodes) -> None:
        """Reset a stream for the peer's fault, which may be what it is after.

        CVE-2025-8671: resets that the server is made to send count like the peer's.
        """
        self.resets.spend()
        self.reset(stream_id, code)
        self._events.stream_reset(stream_id, code)

    # Bytes out.

    def take_output(self) -> bytes:
        """Return what is to be sent, and forget it."""
        return self.data_to_send()

    def has_output(self) -> bool:
        return bool(self._data_to_send)

    def send_block(
        self, state: H2Stream, block: bytes, is_last: bool, interim: bool = False
    ) -> None:
        """Send a header block that was encoded just now."""
        machine = state.state_machine
        machine.process_input(
            StreamInputs.SEND_INFORMATIONAL_HEADERS
            if interim
            else StreamInputs.SEND_HEADERS
        )
        self._data_to_send += frames.encode_headers(
            state.stream_id, block, is_last, self.max_outbound_frame_size
        )
        if is_last:
            machine.process_input(StreamInputs.SEND_END_STREAM)
            self._forget_closed(state)

    def send_content(self, state: H2Stream, data: bytes, is_last: bool) -> None:
        """Send DATA that both windows and the frame size have room for."""
        size = len(data)
        self._data_to_send += frames.pack_header(
            size, frames.DATA, frames.END_STREAM if is_last else 0, state.stream_id
        )
        self._data_to_send += data
        state.outbound_flow_control_window -= size
        self.outbound_flow_control_window -= size
        if is_last:
            state.state_machine.process_input(StreamInputs.SEND_END_STREAM)
            self._forget_closed(state)

    def reset(self, stream_id: int, code: int) -> None:
        """Reset a stream, if it has not ended."""
        state = self.streams.pop(stream_id, None)
        if state is None:
            return
        state.state_machine.process_input(StreamInputs.SEND_RST_STREAM)
        self._reset_by_us[stream_id] = None
        if len(self._reset_by_us) > _RESETS_REMEMBERED:
            del self._reset_by_us[next(iter(self._reset_by_us))]
        self._data_to_send += frames.encode_reset(stream_id, code)

    def acknowledge(self, credit: int, state: H2Stream | None = None) -> None:
        """Give window credit back: the connection's and, if it lives, a stream's."""
        if not credit:
            return
        stream_id = 0
        if state is not None and state.state_machine.state in _RECEIVING:
            stream_id = state.stream_id
        increment = self._inbound_flow_control_window_manager.process_bytes(credit)
        if increment:
            self._send_window_update(0, increment)
        if stream_id and state is not None:
            increment = state._inbound_window_manager.process_bytes(credit)
            if increment:
                self._send_window_update(stream_id, increment)

    def go_away(self, code: int, reason: str = "", last: int | None = None) -> None:
        """Send GOAWAY; without ``last`` it names the last stream that was taken."""
        if last is None:
            last = self.last_stream_id = min(
                self.last_stream_id, self.highest_inbound_stream_id
            )
        text = reason.encode("ascii", "backslashreplace")[:256]
        self._data_to_send += frames.encode_goaway(last, code, text)

    def _send_window_update(self, stream_id: int, increment: int) -> None:
        self._data_to_send += frames.pack_header(
            4, frames.WINDOW_UPDATE, 0, stream_id
        ) + increment.to_bytes(4, "big")

    def _forget_closed(self, state: H2Stream) -> None:
        if state.state_machine.state is StreamState.CLOSED:
            self.streams.pop(state.stream_id, None)
