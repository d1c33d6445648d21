"""The frames that the codec makes, read by h2's own client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 16384, 16385, 32768, 50_000])
def test_content_of_any_size_goes_out_in_frames_that_the_peer_takes(size: int) -> None:
    sender, client = open_pair()
    client.send_headers(1, GET, end_stream=True)
    sender.receive_data(client.data_to_send())
    client.receive_data(sender.take_output())
    state = sender.streams[1]
    content = bytes(range(256)) * 200
    sender.ping(b"12345678")
    sender.send_block(state, b"\x88", is_last=False)
    sender.send_content(state, content[:size], is_last=True)
    events = client.receive_data(sender.take_output())
    parts = [event for event in events if isinstance(event, h2.events.DataReceived)]

    assert isinstance(events[0], h2.events.PingReceived)
    assert b"".join(part.data for part in parts) == content[:size]
    assert isinstance(events[-1], h2.events.StreamEnded)
    assert [part.stream_ended is not None for part in parts].count(True) == 1
    assert len(parts) == (max(size, 1) + 16383) // 16384
    assert sender.outbound_flow_control_window == 65535 - size
    assert state.outbound_flow_control_window == 65535 - size
    assert not sender.has_output()


def test_what_is_sent_after_content_stands_behind_it() -> None:
    sender, client = open_pair()
    client.send_headers(1, GET)
    sender.receive_data(client.data_to_send())
    client.receive_data(sender.take_output())
    sender.send_block(sender.streams[1], b"\x88", is_last=False)
    for size in (20_000, 10, 3000):
        sender.send_content(sender.streams[1], bytes(size), is_last=False)
        sender.ping(b"12345678")
    sender.reset(1, 8)
    kinds = [type(event) for event in client.receive_data(sender.take_output())][1:]

    data, ping = h2.events.DataReceived, h2.events.PingReceived
    assert kinds == [data, data, ping, data, ping, data, ping, h2.events.StreamReset]


def test_reset_of_an_ended_stream_is_nothing() -> None:
    sender, _ = open_pair()
    sender.reset(1, 8)

    assert not sender.has_output()


def upload(
    sender: FrameSender, client: h2.connection.H2Connection, stream_id: int, size: int
) -> int:
    """Take content that is read at once; return the client's window after it."""
    for start in range(0, size, 1000):
        client.send_data(stream_id, bytes(min(1000, size - start)))
        credit = min(1000, size - start)
        state = sender.streams[stream_id]
        # As the receiver does: the sender alone reads no frames.
        state._inbound_window_manager.window_consumed(credit)
        sender._inbound_flow_control_window_manager.window_consumed(credit)
        sender.acknowledge(credit, state)
        client.receive_data(sender.take_output())
    client.clear_outbound_data_buffer()
    return client.local_flow_control_window(stream_id)


def open_uploads(count: int, **config: int) -> tuple[FrameSender, Any]:
    sender, client = open_pair(**config)
    for stream_id in range(1, 2 * count, 2):
        client.send_headers(stream_id, GET)
    sender.receive_data(client.data_to_send())
    client.receive_data(sender.take_output())
    return sender, client


def test_window_grows_where_the_application_keeps_up() -> None:
    sender, client = open_uploads(
        1, http2_stream_window_size=10_000, http2_connection_window_size=100_000
    )
    assert upload(sender, client, 1, 4000) == 6000

    assert upload(sender, client, 1, 1000) == 20_000
    assert upload(sender, client, 1, 10_000) == 40_000
    assert upload(sender, client, 1, 20_000) == 55_000


def test_streams_share_what_their_windows_may_grow_by() -> None:
    sender, client = open_uploads(
        3, http2_stream_window_size=20_000, http2_connection_window_size=80_000
    )
    assert upload(sender, client, 1, 10_000) == 40_000
    assert upload(sender, client, 3, 10_000) == 30_000
    assert upload(sender, client, 5, 10_000) == 20_000

    # What an ended stream has had is there for the others again.
    sender.reset(1, 8)
    client.receive_data(sender.take_output())
    assert upload(sender, client, 5, 10_000) == 40_000


def test_window_as_large_as_the_connections_stays() -> None:
    sender, client = open_uploads(
        1, http2_stream_window_size=70_000, http2_connection_window_size=70_000
    )

    assert upload(sender, client, 1, 35_000) == 70_000


def test_window_never_grows_beyond_the_greatest() -> None:
    sender, _ = open_uploads(
        1, http2_stream_window_size=2**31 - 1, http2_connection_window_size=2**40
    )
    (state,) = sender.streams.values()
    state._inbound_window_manager.window_consumed(2**30)
    sender._inbound_flow_control_window_manager.window_consumed(2**30)
    sender.acknowledge(2**30, state)

    assert state._inbound_window_manager.current_window_size == WINDOW_LIMIT


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
