"""The frames that the codec makes, read by h2's own client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from h2.exceptions import StreamClosedError

from djserve.conf.schema import HTTP2Config, HTTPConfig
from djserve.protocols.http2 import frames
from djserve.protocols.http2.codec import WINDOW_LIMIT, FrameWriter, H2State
from djserve.protocols.http2.reader import FrameReader
from djserve.protocols.http2.request import Request
from djserve.protocols.http2.state import StreamState

GET = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]


class Streams:
    """Open a stream for each request, and hear of nothing else."""

    def __init__(self, h2: H2State) -> None:
        self._h2 = h2

    def request_received(
        self, stream_id: int, request: Request, is_complete: bool
    ) -> None:
        self._h2.streams[stream_id] = StreamState(
            stream_id, self._h2.peer_window, None, is_complete
        )

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values: None


class Server:
    """The server's codec, with no connection around it."""

    def __init__(self, **config: int) -> None:
        http, http2 = HTTPConfig(), HTTP2Config(**config)  # type: ignore[arg-type]
        self.h2 = H2State(http, http2)
        self.writer = FrameWriter(self.h2, http2)
        streams = Streams(self.h2)
        self.reader = FrameReader(self.h2, self.writer, streams, http, http2)


def open_pair(**config: int) -> tuple[Server, h2.connection.H2Connection]:
    """A server that has begun, and a client that has read that."""
    server = Server(**config)
    client = h2.connection.H2Connection(h2.config.H2Configuration())
    client.initiate_connection()
    server.writer.start()
    client.receive_data(server.writer.take_output())
    return server, client


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
    server, client = open_pair()
    server.h2.highest_inbound_stream_id = 5
    server.writer.go_away(0, "r\xe9ason")
    (event,) = client.receive_data(server.writer.take_output())

    assert isinstance(event, h2.events.ConnectionTerminated)
    assert (event.last_stream_id, event.additional_data) == (5, b"r\\xe9ason")
    assert server.h2.last_stream_id == 5


def test_announced_goaway_closes_nothing_yet() -> None:
    server, _ = open_pair()
    server.writer.go_away(0, last=WINDOW_LIMIT)

    assert server.h2.last_stream_id == WINDOW_LIMIT


def test_output_is_taken_once() -> None:
    server, _ = open_pair()
    server.h2.ping(b"12345678")

    assert server.writer.take_output() == frames.pack_header(8, frames.PING, 0, 0) + (
        b"12345678"
    )
    assert not server.writer.take_output()


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 16384, 16385, 32768, 50_000])
def test_content_of_any_size_goes_out_in_frames_that_the_peer_takes(size: int) -> None:
    server, client = open_pair()
    client.send_headers(1, GET, end_stream=True)
    server.reader.receive(client.data_to_send())
    client.receive_data(server.writer.take_output())
    state = server.h2.streams[1]
    content = bytes(range(256)) * 200
    server.h2.ping(b"12345678")
    server.writer.send_block(state, b"\x88", is_last=False)
    server.writer.send_content(state, content[:size], is_last=True)
    events = client.receive_data(server.writer.take_output())
    parts = [event for event in events if isinstance(event, h2.events.DataReceived)]

    assert isinstance(events[0], h2.events.PingReceived)
    assert b"".join(part.data for part in parts) == content[:size]
    assert isinstance(events[-1], h2.events.StreamEnded)
    assert [part.stream_ended is not None for part in parts].count(True) == 1
    assert len(parts) == (max(size, 1) + 16383) // 16384
    assert server.h2.outbound_flow_control_window == 65535 - size
    assert state.outbound_flow_control_window == 65535 - size
    assert not server.writer.take_output()


@pytest.mark.parametrize("block_size", [1, 1023, 1024, 16385])
@pytest.mark.parametrize("size", [1, 1023, 1024, 16384])
def test_response_that_is_sent_whole_is_what_its_parts_are(
    block_size: int, size: int
) -> None:
    block, content = bytes(block_size), bytes(range(256)) * 65
    outputs, states = [], []
    for whole in (True, False):
        server, client = open_pair()
        client.send_headers(1, GET, end_stream=True)
        server.reader.receive(client.data_to_send())
        server.writer.take_output()
        state = server.h2.streams[1]
        if whole:
            server.writer.send_response(state, block, content[:size])
        else:
            server.writer.send_block(state, block, is_last=False)
            server.writer.send_content(state, content[:size], is_last=True)
        outputs.append(server.writer.take_output())
        states.append(
            (
                state.is_closed,
                state.is_head_sent,
                state.outbound_flow_control_window,
                server.h2.outbound_flow_control_window,
            )
        )

    assert outputs[0] == outputs[1]
    assert states[0] == states[1] == (True, True, 65535 - size, 65535 - size)
    with pytest.raises(StreamClosedError):
        server.writer.send_response(state, block, content[:size])


@pytest.mark.parametrize("size", [1, 16380, 16381, 40_000])
def test_promise_of_any_size_is_read(size: int) -> None:
    server, client = open_pair()
    client.send_headers(1, GET)
    server.reader.receive(client.data_to_send())
    client.receive_data(server.writer.take_output())
    fields = [(name.encode(), value.encode()) for name, value in GET]
    server.writer.promise(1, 2, [*fields, (b"x", b"v" * size)])
    (event,) = client.receive_data(server.writer.take_output())

    assert isinstance(event, h2.events.PushedStreamReceived)
    assert (event.parent_stream_id, event.pushed_stream_id) == (1, 2)
    assert event.headers is not None
    assert event.headers[-1] == (b"x", b"v" * size)
    assert server.h2.get_next_available_stream_id() == 4


def test_what_is_sent_after_content_stands_behind_it() -> None:
    server, client = open_pair()
    client.send_headers(1, GET)
    server.reader.receive(client.data_to_send())
    client.receive_data(server.writer.take_output())
    server.writer.send_block(server.h2.streams[1], b"\x88", is_last=False)
    for size in (20_000, 10, 3000):
        server.writer.send_content(server.h2.streams[1], bytes(size), is_last=False)
        server.h2.ping(b"12345678")
    server.writer.reset(server.h2.streams[1], 8)
    events = client.receive_data(server.writer.take_output())
    kinds = [type(event) for event in events[1:]]

    data, ping = h2.events.DataReceived, h2.events.PingReceived
    assert kinds == [data, data, ping, data, ping, data, ping, h2.events.StreamReset]


def test_reset_of_an_ended_stream_is_nothing() -> None:
    server, _ = open_pair()
    state = StreamState(1, 65535, None, True)
    state.may_send = False
    server.writer.reset(state, 8)

    assert not server.writer.take_output()


def upload(
    server: Server, client: h2.connection.H2Connection, stream_id: int, size: int
) -> int:
    """Take content that is read at once; return the client's window after it."""
    for start in range(0, size, 1000):
        client.send_data(stream_id, bytes(min(1000, size - start)))
        credit = min(1000, size - start)
        state = server.h2.streams[stream_id]
        # As the reader does, which gets none of these frames.
        state.consume(credit, server.h2.stream_window)
        server.h2._inbound_flow_control_window_manager.window_consumed(credit)
        server.writer.acknowledge(credit, state)
        client.receive_data(server.writer.take_output())
    client.clear_outbound_data_buffer()
    return client.local_flow_control_window(stream_id)


def open_uploads(count: int, **config: int) -> tuple[Server, Any]:
    server, client = open_pair(**config)
    for stream_id in range(1, 2 * count, 2):
        client.send_headers(stream_id, GET)
    server.reader.receive(client.data_to_send())
    client.receive_data(server.writer.take_output())
    return server, client


def test_window_grows_where_the_application_keeps_up() -> None:
    server, client = open_uploads(
        1, http2_stream_window_size=10_000, http2_connection_window_size=100_000
    )
    assert upload(server, client, 1, 4000) == 6000

    assert upload(server, client, 1, 1000) == 20_000
    assert upload(server, client, 1, 10_000) == 40_000
    assert upload(server, client, 1, 20_000) == 55_000


def test_streams_share_what_their_windows_may_grow_by() -> None:
    server, client = open_uploads(
        3, http2_stream_window_size=20_000, http2_connection_window_size=80_000
    )
    assert upload(server, client, 1, 10_000) == 40_000
    assert upload(server, client, 3, 10_000) == 30_000
    assert upload(server, client, 5, 10_000) == 20_000

    # What an ended stream has had is there for the others again.
    server.writer.reset(server.h2.streams.pop(1), 8)
    client.receive_data(server.writer.take_output())
    assert upload(server, client, 5, 10_000) == 40_000


def test_window_as_large_as_the_connections_stays() -> None:
    server, client = open_uploads(
        1, http2_stream_window_size=70_000, http2_connection_window_size=70_000
    )

    assert upload(server, client, 1, 35_000) == 70_000


def test_window_never_grows_beyond_the_greatest() -> None:
    server, _ = open_uploads(
        1, http2_stream_window_size=2**31 - 1, http2_connection_window_size=2**40
    )
    (state,) = server.h2.streams.values()
    state.consume(2**30, server.h2.stream_window)
    server.h2._inbound_flow_control_window_manager.window_consumed(2**30)
    server.writer.acknowledge(2**30, state)

    assert state.receive_window is not None
    assert state.receive_window.current_window_size == WINDOW_LIMIT
