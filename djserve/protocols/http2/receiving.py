"""What happens on streams, told from whole header blocks and pieces of content.

h2 answers any fault with the end of the connection; here what concerns one stream ends
that stream (RFC 9113 section 5.4.2), and the others are served on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from h2.connection import ConnectionInputs
from h2.errors import ErrorCodes
from h2.exceptions import FlowControlError
from h2.stream import H2Stream, H2StreamStateMachine, StreamInputs, StreamState

from djserve.protocols.http2.errors import HTTP2Error
from djserve.protocols.http2.request import check_trailers
from djserve.protocols.http2.sending import CONFIGURATION, RECEIVING, FrameSender

if TYPE_CHECKING:
    from h2.events import Event
    from hyperframe.frame import DataFrame, Frame, HeadersFrame

    from djserve.conf.schema import HTTP2Config, HTTPConfig
    from djserve.protocols.http2.request import Request


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


class StreamReceiver(FrameSender):
    """The streams' half of ``codec.FrameCodec``: calls ``events``."""

    def __init__(
        self, events: StreamEvents, http: HTTPConfig, config: HTTP2Config
    ) -> None:
        super().__init__(http, config)
        self.events = events
        self._stream_limit = config.http2_stream_limit
        self.note_settings()

    def note_settings(self) -> None:
        """Keep at hand what each request asks of the peer's settings."""
        self._peer_window = self.remote_settings.initial_window_size
        self.peer_takes_push = bool(self.remote_settings.enable_push)

    def find(self, stream_id: int) -> H2Stream | None:
        """Return a stream, None where it has ended; idle ones have nothing to get.

        RFC 9113 section 6.8: what comes on those that GOAWAY has left out is ignored.
        """
        state = self.streams.get(stream_id)
        if state is None:
            highest = (
                self.highest_inbound_stream_id
                if stream_id % 2
                else self.highest_outbound_stream_id
            )
            if highest < stream_id <= self.last_stream_id:
                raise HTTP2Error(f"A frame on the idle stream {stream_id}")
        return state

    def block_received(self, stream_id: int, block: bytes, is_complete: bool) -> None:
        state = self.streams.get(stream_id)
        if state is not None:
            self._trailers_received(state, block, is_complete)
        elif not stream_id:
            raise HTTP2Error("HEADERS without a stream")
        elif stream_id > self.highest_inbound_stream_id:
            self._request_received(stream_id, block, is_complete)
        elif stream_id in self.reset_by_us:
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
            CONFIGURATION,
            self._stream_window,
            self._peer_window,
        )
        state.max_outbound_frame_size = self.max_outbound_frame_size
        _receive_head(state.state_machine, is_complete)
        is_refused = len(self.streams) >= self._stream_limit
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
        self.events.request_received(state, request, is_complete)

    def _trailers_received(
        self, state: H2Stream, block: bytes, is_complete: bool
    ) -> None:
        fields = self.decoder.decode_fields(block)
        if state.state_machine.state not in RECEIVING:
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

    def content_received(
        self, stream_id: int, data: bytes, credit: int, is_complete: bool
    ) -> None:
        if not credit and not is_complete:
            self.controls.spend()
        state = self.find(stream_id)
        self._inbound_flow_control_window_manager.window_consumed(credit)
        if state is None:
            self._late_content(stream_id, credit)
            return
        machine = state.state_machine
        if machine.state not in RECEIVING:
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
            self.events.content_received(stream_id, data, credit, False)

    def _end_content(self, state: H2Stream, data: bytes, credit: int) -> None:
        expected = state._expected_content_length
        if expected is not None and state._actual_content_length != expected:
            self.fail_stream(state.stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        state.state_machine.process_input(StreamInputs.RECV_END_STREAM)
        self._forget_closed(state)
        self.events.content_received(state.stream_id, data, credit, True)

    def _late_content(self, stream_id: int, credit: int) -> None:
        if stream_id > self.last_stream_id or stream_id in self.reset_by_us:
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
        self.events.stream_reset(stream_id, code)

    # h2 calls these two for frames that it has taken.

    def _receive_headers_frame(
        self, frame: HeadersFrame
    ) -> tuple[list[Frame], list[Event]]:
        self.block_received(
            frame.stream_id, bytes(frame.data), "END_STREAM" in frame.flags
        )
        return [], []

    def _receive_data_frame(self, frame: DataFrame) -> tuple[list[Frame], list[Event]]:
        self.content_received(
            frame.stream_id,
            bytes(frame.data),
            frame.flow_controlled_length,
            "END_STREAM" in frame.flags,
        )
        return [], []


def _receive_head(machine: H2StreamStateMachine, is_complete: bool) -> None:
    """Do what h2's machine does at a request's head (benchmark: http2_hello)."""
    machine.client = False
    machine.headers_received = True
    machine.state = StreamState.HALF_CLOSED_REMOTE if is_complete else StreamState.OPEN
