"""A stream's state beside h2's own machine, in every order of frames."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from h2.events import StreamReset
from h2.exceptions import FlowControlError, ProtocolError, StreamClosedError
from h2.stream import H2Stream, H2StreamStateMachine, StreamInputs
from h2.stream import StreamState as H2StreamState

from djserve.conf.schema import HTTP2Config, HTTPConfig
from djserve.protocols.http2.codec import CONFIGURATION, FrameWriter, H2State
from djserve.protocols.http2.errors import HTTP2Error
from djserve.protocols.http2.reader import FrameReader
from djserve.protocols.http2.state import StreamState

RECEIVED_STATES = {
    (True, True): H2StreamState.OPEN,
    (False, True): H2StreamState.HALF_CLOSED_REMOTE,
    (True, False): H2StreamState.HALF_CLOSED_LOCAL,
    (False, False): H2StreamState.CLOSED,
}


class Silent:
    """Wants nothing of what is read."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values: None


class Codec:
    """A connection's codec, for any number of streams."""

    def __init__(self) -> None:
        http, http2 = HTTPConfig(), HTTP2Config(http2_reset_limit=10_000)
        self.h2 = H2State(http, http2)
        self.writer = FrameWriter(self.h2, http2)
        self.reader = FrameReader(self.h2, self.writer, Silent(), http, http2)


class Pair:
    """The same stream twice: as the codec keeps it, and as h2's machine does."""

    def __init__(self, codec: Codec, stream_id: int, is_complete: bool) -> None:
        self.h2, self.writer, self.reader = codec.h2, codec.writer, codec.reader
        self.state = StreamState(stream_id, 65535, None, is_complete)
        self.h2.streams[stream_id] = self.state
        self.machine = H2StreamStateMachine(stream_id)
        if stream_id % 2:
            self.machine.process_input(StreamInputs.RECV_HEADERS)
            if is_complete:
                self.machine.process_input(StreamInputs.RECV_END_STREAM)
        else:
            self.machine.process_input(StreamInputs.SEND_PUSH_PROMISE)

    def find_state(self) -> H2StreamState:
        if self.state.is_reserved and not self.state.is_closed:
            return H2StreamState.RESERVED_LOCAL
        return RECEIVED_STATES[self.state.may_receive, self.state.may_send]

    # The same frame on both sides; each returns how either took it.

    def send_head(self) -> tuple[str, str]:
        return (
            attempt(lambda: self.writer.send_block(self.state, b"", False)),
            attempt(lambda: self.machine.process_input(StreamInputs.SEND_HEADERS)),
        )

    def send_end(self) -> tuple[str, str]:
        return (
            attempt(lambda: self.writer.send_content(self.state, b"", True)),
            attempt(lambda: self.machine.process_input(StreamInputs.SEND_END_STREAM)),
        )

    def send_reset(self) -> tuple[str, str]:
        """A closed stream is reset by neither; the codec is told, and h2 raises."""
        expected = attempt(
            lambda: self.machine.process_input(StreamInputs.SEND_RST_STREAM)
        )
        self.writer.reset(self.state, 8)
        return expected, expected

    def receive_data(self) -> tuple[str, str]:
        return self._receive_data(False)

    def receive_end(self) -> tuple[str, str]:
        return self._receive_data(True)

    def _receive_data(self, is_complete: bool) -> tuple[str, str]:
        def receive() -> list[Any]:
            events = self.machine.process_input(StreamInputs.RECV_DATA)
            if is_complete:
                self.machine.process_input(StreamInputs.RECV_END_STREAM)
            return events

        was_closed, was_reserved = self.state.is_closed, self.state.is_reserved
        expected = judge(receive)
        if was_reserved:
            # RFC 9113 section 5.1; h2 fails the stream alone.
            expected = "connection"
        if was_closed:
            # The reader does not find it any more.
            return expected, expected
        sent = len(self.h2._data_to_send)
        got = judge(
            lambda: self.reader.content_received(
                self.state.stream_id, b"x", 1, is_complete
            )
        )
        if len(self.h2._data_to_send) > sent:
            got = "stream"
        return got, expected


def attempt(send: Callable[[], object]) -> str:
    """Return whether a frame may be sent."""
    try:
        send()
    except ProtocolError:
        return "refused"
    return "sent"


def judge(take: Callable[[], Any]) -> str:
    """Return whose fault a frame was: no one's, the stream's or the connection's."""
    try:
        events = take()
    except StreamClosedError:
        return "stream"
    except (ProtocolError, HTTP2Error):
        return "connection"
    if any(isinstance(event, StreamReset) for event in events or ()):
        return "stream"
    return "none"


FRAMES = (
    Pair.send_head,
    Pair.send_end,
    Pair.send_reset,
    Pair.receive_data,
    Pair.receive_end,
)


@pytest.mark.parametrize("kind", ["open", "complete", "promised"])
def test_state_is_that_of_h2s_machine_after_any_frames(kind: str) -> None:
    codec = Codec()
    for order in product(FRAMES, repeat=4):
        pair = Pair(codec, 2 if kind == "promised" else 1, kind != "open")
        for frame in order:
            if frame is Pair.send_end and not pair.state.is_head_sent:
                # No response ends before it begins.
                break
            if frame is Pair.send_head and pair.machine.trailers_sent:
                break
            got, expected = frame(pair)
            assert got == expected, [each.__name__ for each in order]
            if expected in ("connection", "refused"):
                break
            assert pair.find_state() is pair.machine.state, order


def test_windows_are_those_of_h2() -> None:
    ours = StreamState(1, 65535, None, False)
    theirs = H2Stream(1, CONFIGURATION, 1000, 65535)
    for size in (1, 0, 998, 1):
        ours.consume(size, 1000)
        theirs._inbound_window_manager.window_consumed(size)

    assert vars(ours.receive_window) == vars(theirs._inbound_window_manager)
    with pytest.raises(FlowControlError):
        ours.consume(1, 1000)
