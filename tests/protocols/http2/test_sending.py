"""The frames that the codec makes, read by h2's own client."""

from __future__ import annotations

from collections.abc import Callable

import h2.config
import h2.connection
import h2.events
import pytest
from h2.stream import H2StreamStateMachine, StreamInputs
from hpack import Encoder

from djserve.conf.schema import HTTP2Config, HTTPConfig
from djserve.protocols.http2 import frames
from djserve.protocols.http2.codec import FrameCodec
from djserve.protocols.http2.sending import WINDOW_LIMIT, FrameSender

GET = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]


def open_pair(**config: int) -> tuple[FrameSender, h2.connection.H2Connection]:
    """A server's sender that has begun, and a client that has read it."""
    sender = FrameSender(HTTPConfig(), HTTP2Config(**config))  # type: ignore[arg-type]
    client = h2.connection.H2Connection(h2.config.H2Configuration())
    client.initiate_connection()
    sender.start()
    client.receive_data(sender.take_output())
    return sender, client


def test_client_learns_the_settings() -> None:
    _, client = open_pair(http2_stream_limit=7, http2_stream_window_size=5000)

    assert client.remote_settings.max_concurrent_streams == 7
    assert client.remote_settings.initial_window_size == 5000
    assert client.remote_settings.enable_connect_protocol == 1


@pytest.mark.parametrize("size", [65535, 65536, 2**31 - 1, 2**40])
def test_client_learns_the_connections_window(size: int) -> None:
    _, client = open_pair(http2_connection_window_size=size)

    assert client.outbound_flow_control_window == min(size, WINDOW_LIMIT)


def test_goaway_names_the_last_stream() -> None:
    sender, client = open_pair()
    sender.highest_inbound_stream_id = 5
    sender.go_away(0, "r\xe9ason")
    (event,) = client.receive_data(sender.take_output())

    assert isinstance(event, h2.events.ConnectionTerminated)
    assert (event.last_stream_id, event.additional_data) == (5, b"r\\xe9ason")
    assert sender.last_stream_id == 5


def test_announced_goaway_closes_nothing_yet() -> None:
    sender, _ = open_pair()
    sender.go_away(0, last=WINDOW_LIMIT)

    assert sender.last_stream_id == WINDOW_LIMIT


def test_output_is_taken_once() -> None:
    sender, _ = open_pair()
    sender.ping(b"12345678")

    assert sender.has_output()
    assert sender.take_output() == frames.pack_header(8, frames.PING, 0, 0) + (
        b"12345678"
    )
    assert not sender.has_output()


def test_reset_of_an_ended_stream_is_nothing() -> None:
    sender, _ = open_pair()
    sender.reset(1, 8)

    assert not sender.has_output()


class Unheard:
    """Hears of requests and wants nothing of them."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values: None


@pytest.mark.parametrize("is_complete", [True, False])
@pytest.mark.parametrize("has_content", [True, False])
def test_short_way_leaves_a_stream_as_h2_does(
    is_complete: bool, has_content: bool
) -> None:
    codec = FrameCodec(Unheard(), HTTPConfig(), HTTP2Config())
    codec.block_received(1, Encoder().encode(GET), is_complete)
    state = codec.streams[1]
    codec.send_block(state, b"\x88", not has_content)
    if has_content:
        codec.send_content(state, b"x", is_last=True)

    machine = H2StreamStateMachine(1)
    machine.process_input(StreamInputs.RECV_HEADERS)
    if is_complete:
        machine.process_input(StreamInputs.RECV_END_STREAM)
    machine.process_input(StreamInputs.SEND_HEADERS)
    machine.process_input(StreamInputs.SEND_END_STREAM)
    assert vars(state.state_machine) == vars(machine)
