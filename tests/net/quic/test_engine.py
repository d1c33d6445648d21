"""The engine's credit follows what was read, not what has come."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.net.quic.conftest import Pair

WINDOW = 64 * 1024


def test_stream_gets_credit_for_what_was_read(open_pair: Callable[..., Pair]) -> None:
    pair = open_pair(http2_stream_window_size=WINDOW)
    sender = pair.client
    sender.send_stream_data(0, b"x" * (4 * WINDOW))
    pair.run()
    sent = sender._streams[0].sender
    assert sent.highest_offset == WINDOW
    pair.server.acknowledge(0, 100)
    pair.run()
    # Little is not worth a frame.
    assert sent.highest_offset == WINDOW
    pair.server.acknowledge(0, WINDOW - 100)
    pair.run()

    assert sent.highest_offset == 2 * WINDOW


def test_connection_gets_credit_of_all_streams(open_pair: Callable[..., Pair]) -> None:
    pair = open_pair(
        http2_stream_window_size=WINDOW, http2_connection_window_size=2 * WINDOW
    )
    client = pair.client
    for stream_id in (0, 4, 8):
        client.send_stream_data(stream_id, b"x" * WINDOW)
    pair.run()
    sizes = [client._streams[one].sender.highest_offset for one in (0, 4, 8)]
    assert sum(sizes) == 2 * WINDOW
    pair.server.settle(0)
    pair.server.settle(4)
    pair.run()

    assert client._streams[8].sender.highest_offset == WINDOW


def test_stream_that_is_forgotten_twice_counts_once(
    open_pair: Callable[..., Pair],
) -> None:
    pair = open_pair()
    pair.client.send_stream_data(0, b"x" * 1000)
    pair.run()
    pair.server.acknowledge(0, 400)
    pair.server.settle(0)
    pair.server.settle(0)

    assert pair.server._used == 1000


def test_streams_are_limited(open_pair: Callable[..., Pair]) -> None:
    pair = open_pair(http2_stream_limit=2)
    for stream_id in (0, 4, 8):
        pair.client.send_stream_data(stream_id, b"x", end_stream=True)
    pair.run()

    assert [one for one in pair.server._streams if one % 4 == 0] == [0, 4]
    # Each that ends lets another begin.
    pair.server.send_stream_data(0, b"", end_stream=True)
    pair.server.send_stream_data(4, b"", end_stream=True)
    pair.run()
    assert 8 in pair.server._streams


def test_what_waits_is_what_was_never_sent(open_pair: Callable[..., Pair]) -> None:
    pair = open_pair()
    pair.client.send_stream_data(0, b"x")
    pair.run()
    server = pair.server
    server.send_stream_data(0, b"y" * 5000)
    assert (server.waiting_size(0), server.sent_size(0)) == (5000, 0)
    assert server.unacknowledged_size == 5000
    pair.run()
    assert (server.waiting_size(0), server.sent_size(0)) == (0, 5000)
    assert server.unacknowledged_size == 0
    assert server.can_write(0)
    server.reset_stream(0, 0x10C)
    server.drop_output(0)

    assert not server.can_write(0)
    assert server.waiting_size(0) == 0


def test_cipher_is_known(open_pair: Callable[..., Pair]) -> None:
    assert open_pair().server.cipher_suite in (0x1301, 0x1302, 0x1303)
