"""What h2 keeps of a connection, and the frames that the server sends over it.

h2 keeps the settings and the connection's windows; a stream's state and windows are in
``state``. The frames are written here and read in ``reader``: the usual ones are few
and plain, and h2's frame, event and stream objects cost more than all else of a request
(benchmark: http2_hello). The price is that these modules reach into h2 and hpack for
what has no public name there:

    H2Connection    the buffer ``_data_to_send``; ``_receive_frame`` and the methods for
                    HEADERS, DATA and SETTINGS, which ``H2State`` overrides;
                    ``_inbound_flow_control_window_manager``
    FrameBuffer     ``_headers_buffer``: whether a head has begun
    H2Stream        two attributes that the settings change, which stand in ``state``
    WindowManager   ``max_window_size`` and ``current_window_size`` are widened
    hpack           the header table's ``_maxsize`` and ``resized`` and the encoder's
                    ``table_size_changes``, in ``hpack``; ``encode_integer`` and the
                    static table, in ``response``

A release without one of these is refused (``packages``), and one that changes what it
means fails a test. ``test_codec`` has h2's own client read what is written and count
its windows, and ``test_state`` compares a stream with h2's state machine in every order
of frames.
The table in its tests' ``cases`` has the plain form, which is read here, and the padded
and divided ones, which h2 reads. ``test_hpack`` and ``test_response`` have hpack's
decoder read each block, and its encoder write those that are decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import StreamClosedError
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings
from h2.stream import H2Stream
from h2.windows import WindowManager

from djserve.packages import require
from djserve.protocols.http2 import frames
from djserve.protocols.http2.errors import Allowance
from djserve.protocols.http2.hpack import BlockDecoder, BlockEncoder

if TYPE_CHECKING:
    from h2.events import Event
    from hyperframe.frame import DataFrame, Frame, HeadersFrame, SettingsFrame

    from djserve.conf.schema import HTTP2Config, HTTPConfig
    from djserve.protocols.http2.state import StreamState

require(
    "h2",
    H2Connection,
    "_data_to_send",
    "_inbound_flow_control_window_manager",
    "_receive_data_frame",
    "_receive_frame",
    "_receive_headers_frame",
    "_receive_settings_frame",
    "incoming_buffer",
)
require("h2", FrameBuffer, "_headers_buffer")
require("h2", H2Stream, "max_outbound_frame_size", "outbound_flow_control_window")
require("h2", WindowManager, "current_window_size", "max_window_size", "process_bytes")

CONFIGURATION = H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)

# RFC 9113 section 6.9.1.
WINDOW_LIMIT = 2**31 - 1
_DEFAULT_WINDOW = 65535

# Streams that we have reset and whose late frames are therefore no fault of the peer's.
_RESETS_REMEMBERED = 512

# Content from this size on is not copied into h2's buffer first.
_LARGE_SIZE = 1024

_KNOWN_SETTINGS = frozenset(SettingCodes)


class FrameHooks(Protocol):
    """Who takes the frames that h2 has read and has nothing to do with."""

    def block_received(
        self, stream_id: int, block: bytes, is_complete: bool, /
    ) -> None: ...
    def content_received(
        self, stream_id: int, data: bytes, credit: int, is_complete: bool, /
    ) -> None: ...


class H2State(H2Connection):
    """h2's part of the server's end of one connection, without its transport.

    ``hooks`` get what concerns a stream; they are set before the first byte is read.
    ``resets`` and ``controls`` are what the peer may still do for nothing. ``streams``
    has those that are not closed, of which h2 makes none.
    """

    streams: dict[int, StreamState]  # type: ignore[assignment]
    hooks: FrameHooks

    def __init__(self, http: HTTPConfig, config: HTTP2Config) -> None:
        super().__init__(CONFIGURATION)
        self.decoder: BlockDecoder = BlockDecoder(http)
        self.encoder: BlockEncoder = BlockEncoder()
        self.resets = Allowance(
            "stream resets", config.http2_reset_limit, "HTTP2_RESET_LIMIT"
        )
        self.controls = Allowance(
            "control frames",
            config.http2_control_frame_limit,
            "HTTP2_CONTROL_FRAME_LIMIT",
        )
        self.reset_by_us: dict[int, None] = {}
        self.stream_window = min(config.http2_stream_window_size, WINDOW_LIMIT)
        self.incoming_buffer = FrameBuffer(server=False)
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: config.http2_stream_limit,
                SettingCodes.MAX_HEADER_LIST_SIZE: http.header_size_limit,
                SettingCodes.INITIAL_WINDOW_SIZE: self.stream_window,
                SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
            },
        )
        self.last_stream_id = WINDOW_LIMIT
        """Streams above this one are ignored: a GOAWAY has named it (section 6.8)."""
        self.note_settings()

    def note_settings(self) -> None:
        """Keep at hand what each request asks of the peer's settings."""
        self.peer_window: int = self.remote_settings.initial_window_size
        self.peer_takes_push = bool(self.remote_settings.enable_push)

    def refill(self, seconds: float) -> None:
        """Give back what the peer may do for nothing."""
        self.resets.refill(seconds)
        self.controls.refill(seconds)

    # h2 calls these for frames that it has taken.

    def _receive_headers_frame(
        self, frame: HeadersFrame
    ) -> tuple[list[Frame], list[Event]]:
        self.hooks.block_received(
            frame.stream_id, bytes(frame.data), "END_STREAM" in frame.flags
        )
        return [], []

    def _receive_data_frame(self, frame: DataFrame) -> tuple[list[Frame], list[Event]]:
        self.hooks.content_received(
            frame.stream_id,
            bytes(frame.data),
            frame.flow_controlled_length,
            "END_STREAM" in frame.flags,
        )
        return [], []

    def _receive_settings_frame(
        self, frame: SettingsFrame
    ) -> tuple[list[Frame], list[Event]]:
        # h2 keeps every setting it is sent, of which there are 65,536.
        for setting in [key for key in frame.settings if key not in _KNOWN_SETTINGS]:
            del frame.settings[setting]
        return super()._receive_settings_frame(frame)


class FrameWriter:
    """Make the frames that the server sends; ``take_output`` returns them."""

    __slots__ = ("_connection_window", "_extra_window", "_parts", "encoder", "h2")

    def __init__(self, h2: H2State, config: HTTP2Config) -> None:
        self.h2 = h2
        self.encoder = h2.encoder
        # What stands before h2's own buffer: earlier buffers, and content between.
        self._parts: list[bytes | bytearray | memoryview] = []
        self._connection_window = min(config.http2_connection_window_size, WINDOW_LIMIT)
        # What streams may get beyond their window, all together: half of what is left,
        # so that those whose application stops reading do not stop the others.
        self._extra_window = max(0, self._connection_window - h2.stream_window) // 2

    def start(self) -> None:
        """Make the server's preface: SETTINGS and the connection's window."""
        self.h2.initiate_connection()
        increment = self._connection_window - _DEFAULT_WINDOW
        if increment > 0:
            self.h2.increment_flow_control_window(increment)

    def take_output(self) -> bytes:
        """Return what is to be sent, and forget it.

        Large content is copied here and nowhere else (benchmark:
        http2_mixed_download).
        """
        h2 = self.h2
        if self._parts:
            self._parts.append(h2._data_to_send)
            data = b"".join(self._parts)
            self._parts.clear()
        elif h2._data_to_send:
            data = bytes(h2._data_to_send)
        else:
            return b""
        h2._data_to_send = bytearray()
        return data

    def send_block(
        self, state: StreamState, block: bytes, is_last: bool, interim: bool = False
    ) -> None:
        """Send a header block that was encoded just now."""
        if not state.may_send:
            raise StreamClosedError(state.stream_id)
        if not interim:
            state.is_head_sent = True
        self.h2._data_to_send += frames.encode_headers(
            state.stream_id, block, is_last, self.h2.max_outbound_frame_size
        )
        if is_last:
            state.may_send = False

    def send_content(
        self, state: StreamState, data: bytes | memoryview, is_last: bool
    ) -> None:
        """Send DATA that both windows have room for, in as many frames as it takes.

        ``data`` must not change until it is taken.
        """
        if not state.may_send:
            raise StreamClosedError(state.stream_id)
        size = len(data)
        state.outbound_flow_control_window -= size
        self.h2.outbound_flow_control_window -= size
        if size > self.h2.max_outbound_frame_size:
            data = self._send_full_frames(state.stream_id, data)
            size = len(data)
        self.h2._data_to_send += frames.pack_header(
            size, frames.DATA, frames.END_STREAM if is_last else 0, state.stream_id
        )
        if size < _LARGE_SIZE:
            self.h2._data_to_send += data
        else:
            self._parts += (self.h2._data_to_send, data)
            self.h2._data_to_send = bytearray()
        if is_last:
            state.may_send = False

    def send_response(self, state: StreamState, block: bytes, data: bytes) -> None:
        """Send a whole response: a block and content that is not empty.

        ``data`` is one frame's at the most, for which both windows have room.
        """
        size = len(data)
        if size < _LARGE_SIZE and len(block) < _LARGE_SIZE and state.may_send:
            h2 = self.h2
            state.outbound_flow_control_window -= size
            h2.outbound_flow_control_window -= size
            h2._data_to_send += frames.encode_response(state.stream_id, block, data)
            state.is_head_sent = True
            state.may_send = False
        else:
            self.send_block(state, block, is_last=False)
            self.send_content(state, data, is_last=True)

    def promise(
        self, stream_id: int, promised_id: int, fields: list[tuple[bytes, bytes]]
    ) -> None:
        """Promise a response to a request with these fields (section 8.4)."""
        self.h2.highest_outbound_stream_id = promised_id
        self.h2._data_to_send += frames.encode_promise(
            stream_id,
            promised_id,
            self.encoder.encode(fields),
            self.h2.max_outbound_frame_size,
        )

    def reset(self, state: StreamState, code: int) -> None:
        """Reset a stream, if it has not ended."""
        if not state.is_closed:
            state.close()
            self.refuse(state.stream_id, code)

    def refuse(self, stream_id: int, code: int) -> None:
        """Reset a stream that has just begun."""
        self.h2.reset_by_us[stream_id] = None
        if len(self.h2.reset_by_us) > _RESETS_REMEMBERED:
            del self.h2.reset_by_us[next(iter(self.h2.reset_by_us))]
        self.h2._data_to_send += frames.encode_reset(stream_id, code)

    def acknowledge(self, credit: int, state: StreamState | None = None) -> None:
        """Give window credit back: the connection's and, if it lives, a stream's.

        ``state`` is given if the application has read all that has come on it.
        """
        if not credit:
            return
        increment = self.h2._inbound_flow_control_window_manager.process_bytes(credit)
        if increment:
            self._send_window_update(0, increment)
        if state is None or not state.may_receive or state.receive_window is None:
            return
        increment = state.receive_window.process_bytes(credit)
        if increment:
            increment += self._widen(state.receive_window)
            self._send_window_update(state.stream_id, increment)

    def go_away(self, code: int, reason: str = "", last: int | None = None) -> None:
        """Send GOAWAY; without ``last`` it names the last stream that was taken."""
        if last is None:
            last = self.h2.last_stream_id = min(
                self.h2.last_stream_id, self.h2.highest_inbound_stream_id
            )
        text = reason.encode("ascii", "backslashreplace")[:256]
        self.h2._data_to_send += frames.encode_goaway(last, code, text)

    def _widen(self, window: WindowManager) -> int:
        """Give a stream whose application keeps up a window of up to twice the size.

        A client can send one window in each round trip, so that the first size would
        be slow on long ways (benchmark: http2_mixed_upload).
        """
        windows = [each.receive_window for each in self.h2.streams.values()]
        used = sum(
            each.max_window_size - self.h2.stream_window
            for each in windows
            if each is not None
        )
        size = window.max_window_size
        extra = max(0, min(self._extra_window - used, size, WINDOW_LIMIT - size))
        window.max_window_size += extra
        window.current_window_size += extra
        return extra

    def _send_full_frames(self, stream_id: int, data: bytes | memoryview) -> memoryview:
        """Send all but the last frame; return what that one has to hold."""
        size = self.h2.max_outbound_frame_size
        header = frames.pack_header(size, frames.DATA, 0, stream_id)
        content = memoryview(data)
        self._parts.append(self.h2._data_to_send)
        self.h2._data_to_send = bytearray()
        while len(content) > size:
            self._parts += (header, content[:size])
            content = content[size:]
        return content

    def _send_window_update(self, stream_id: int, increment: int) -> None:
        self.h2._data_to_send += frames.pack_header(
            4, frames.WINDOW_UPDATE, 0, stream_id
        ) + increment.to_bytes(4, "big")
