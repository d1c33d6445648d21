"""Bytes -> frames: a short way for those that nearly always come, h2 for the rest.

HEADERS, DATA, WINDOW_UPDATE and RST_STREAM in their plain form are read here, without
h2's frame and event objects (benchmark: http2_hello). h2 takes SETTINGS, PING,
CONTINUATION and all that is padded. With ``sending`` and ``receiving``, the only module
that reaches into h2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from h2.errors import ErrorCodes
from h2.events import PingAckReceived, RemoteSettingsChanged, SettingsAcknowledged
from h2.exceptions import FlowControlError
from h2.exceptions import ProtocolError as H2ProtocolError
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes
from h2.stream import StreamInputs
from h2.utilities import guard_increment_window
from hyperframe.exceptions import InvalidPaddingError

from djserve.protocols.http2 import frames
from djserve.protocols.http2.errors import HTTP2Error
from djserve.protocols.http2.receiving import StreamReceiver
from djserve.protocols.http2.sending import WINDOW_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from h2.events import Event
    from hyperframe.frame import Frame, SettingsFrame

    from djserve.conf.schema import HTTP2Config, HTTPConfig
    from djserve.protocols.http2.receiving import StreamEvents

_KNOWN_SETTINGS = frozenset(SettingCodes)

# A dozen settings are defined; each in a frame costs h2 more than a microsecond.
_SETTINGS_SIZE_LIMIT = 64 * 6


class FrameCodec(StreamReceiver):
    """The server's end of one HTTP/2 connection, without its transport.

    ``receive`` takes bytes and calls ``events``; ``take_output`` returns what is to be
    sent.
    """

    def __init__(
        self, events: StreamEvents, http: HTTPConfig, config: HTTP2Config
    ) -> None:
        super().__init__(events, http, config)
        self._block_size_limit = http.header_size_limit
        self._fragment_limit = config.http2_fragment_limit
        self._fragments = 0
        self._block_size = 0
        self._rest = b""
        self._preface = frames.PREFACE
        self._is_first_frame = True
        self.incoming_buffer = FrameBuffer(server=False)

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

    def _missing_size(self) -> int:
        """Return what a frame that was cut still needs, 0 where its header is cut."""
        if len(self._rest) < frames.HEADER_SIZE:
            return 0
        high, low, *_ = frames.unpack_header(self._rest)
        size: int = frames.HEADER_SIZE + (high << 16 | low)
        return size - len(self._rest)

    def _take_frames(self, data: bytes, position: int) -> None:
        """Take the whole frames from ``position`` on; what is left waits."""
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
        if flags & (frames.PADDED | frames.END_HEADERS) != frames.END_HEADERS:
            return False
        if flags & frames.HAS_PRIORITY:
            # RFC 9113 section 5.3: the old priorities mean nothing any more.
            if len(payload) < 5:
                return False
            payload = payload[5:]
        self.block_received(stream_id, payload, bool(flags & frames.END_STREAM))
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
        self.resets.spend()
        state = self.find(stream_id)
        if state is not None:
            state.state_machine.process_input(StreamInputs.RECV_RST_STREAM)
            del self.streams[stream_id]
            self.events.stream_reset(stream_id, frames.unpack_number(payload)[0])
        return True

    def _take_window_update(self, flags: int, stream_id: int, payload: bytes) -> bool:
        if len(payload) != 4:
            return False
        self.controls.spend()
        increment = frames.unpack_number(payload)[0] & WINDOW_LIMIT
        if not stream_id:
            return self._open_connection_window(increment)
        state = self.find(stream_id)
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
            self.events.window_opened(stream_id)
        return True

    def _open_connection_window(self, increment: int) -> bool:
        if not increment:
            raise HTTP2Error("A window update of nothing")
        self.outbound_flow_control_window = guard_increment_window(
            self.outbound_flow_control_window, increment
        )
        self.events.window_opened(0)
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
        self.events.priority_updated(prioritized, payload[4:])
        return True

    def _take_goaway(self, flags: int, stream_id: int, payload: bytes) -> bool:
        """Take note; h2 would not let the streams under way be answered any more."""
        if stream_id:
            raise HTTP2Error("GOAWAY on a stream")
        if len(payload) < 8:
            raise HTTP2Error("Malformed GOAWAY", ErrorCodes.FRAME_SIZE_ERROR)
        self.controls.spend()
        self.events.going_away()
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
            if kind == frames.SETTINGS:
                _check_settings(flags, len(frame) - frames.HEADER_SIZE)
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
            self.note_settings()
            self.events.settings_changed()
        elif isinstance(event, SettingsAcknowledged):
            self.events.settings_acknowledged()
        elif isinstance(event, PingAckReceived):
            self.events.ping_acknowledged(event.ping_data)

    def _receive_settings_frame(
        self, frame: SettingsFrame
    ) -> tuple[list[Frame], list[Event]]:
        # h2 keeps every setting it hears of, of which there are 65,536.
        for setting in [key for key in frame.settings if key not in _KNOWN_SETTINGS]:
            del frame.settings[setting]
        return super()._receive_settings_frame(frame)


def _check_settings(flags: int, size: int) -> None:
    if flags & frames.ACK and size:
        raise HTTP2Error(
            "An acknowledgement with settings", ErrorCodes.FRAME_SIZE_ERROR
        )
    if size > _SETTINGS_SIZE_LIMIT:
        raise HTTP2Error("Too many settings", ErrorCodes.ENHANCE_YOUR_CALM)
