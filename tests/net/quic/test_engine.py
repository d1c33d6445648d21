"""The engine's credit follows what was read, not what has come."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from aioquic import tls
from aioquic.buffer import encode_uint_var
from aioquic.quic.connection import QuicReceiveContext
from aioquic.quic.events import (
    ConnectionTerminated,
    DatagramFrameReceived,
    StreamDataReceived,
)
from aioquic.quic.packet import QuicErrorCode

from djserve.net.quic.engine import DATAGRAM_LIMIT, LONG_RESPONSE, PIECES_LIMIT
from djserve.protocols.http3.sessions import DATAGRAM_SIZE_LIMIT
from tests.net.quic.conftest import CLIENT

if TYPE_CHECKING:
    from tests.net.quic.conftest import Pair

WINDOW = 64 * 1024
MUCH = 100_000


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


def test_stream_that_has_ended_is_settled_once_and_forgotten(
    open_pair: Callable[..., Pair],
) -> None:
    pair = open_pair()
    pair.client.send_stream_data(0, b"x" * 1000, end_stream=True)
    pair.run()
    pair.server.settle(0)
    pair.server.settle(0)
    assert pair.server._used == 1000
    pair.server.send_stream_data(0, b"", end_stream=True)
    pair.run()
    assert 0 not in pair.server._streams
    # What an application takes later is the connection's to count, and no more.
    pair.server.acknowledge(0, 10)
    pair.server.settle(0)

    assert pair.server._used == 1010
    assert not pair.server._used_by_stream


def test_stream_begins_with_its_first_bytes(open_pair: Callable[..., Pair]) -> None:
    pair = open_pair()
    pair.client.send_stream_data(0, b"")
    # Streams of lower numbers are opened by it, and have given nothing.
    pair.client.send_stream_data(4, b"x")
    pair.run()
    begun = [pair.server.has_begun(stream_id) for stream_id in (0, 4, 8)]
    assert begun == [False, True, False]
    pair.client.send_stream_data(0, b"", end_stream=True)
    pair.run()
    assert pair.server.has_begun(0)
    pair.server.send_stream_data(0, b"", end_stream=True)
    pair.run()

    assert 0 not in pair.server._streams
    assert pair.server.has_begun(0)


def test_our_streams_wait_for_the_peers_leave(open_pair: Callable[..., Pair]) -> None:
    pair = open_pair()
    pair.client._local_max_streams_uni.value = pair.client._local_max_streams_uni.sent
    blocked = []
    for _ in range(200):
        stream_id = pair.server.get_next_available_stream_id(is_unidirectional=True)
        pair.server.send_stream_data(stream_id, b"x")
        blocked.append(pair.server.is_blocked(stream_id))
    assert blocked == [False] * 128 + [True] * 72
    pair.client._local_max_streams_uni.value = 200
    pair.run()

    assert not pair.server.is_blocked(stream_id)


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


@pytest.mark.parametrize("datagrams", [False, True])
def test_datagrams_go_where_they_are_taken(
    open_pair: Callable[..., Pair], datagrams: bool
) -> None:
    pair = open_pair(datagrams=datagrams)
    assert pair.server.takes_datagram(1) == datagrams
    if not datagrams:
        return
    pair.server.send_datagram_frame(b"x" * DATAGRAM_SIZE_LIMIT)
    pair.run()
    events = iter(pair.client.next_event, None)

    assert b"x" * DATAGRAM_SIZE_LIMIT in [
        event.data for event in events if isinstance(event, DatagramFrameReceived)
    ]


def test_datagram_that_the_peer_cannot_take_is_lost(
    open_pair: Callable[..., Pair],
) -> None:
    pair = open_pair(datagrams=True)
    pair.server._remote_max_datagram_frame_size = 100

    assert pair.server.takes_datagram(97)
    assert not pair.server.takes_datagram(98)


def test_datagrams_that_wait_are_bounded(open_pair: Callable[..., Pair]) -> None:
    pair = open_pair(datagrams=True)
    for _ in range(DATAGRAM_LIMIT):
        assert pair.server.takes_datagram(1)
        pair.server.send_datagram_frame(b"x")

    assert not pair.server.takes_datagram(1)
    pair.run()
    assert pair.server.takes_datagram(1)


@pytest.mark.parametrize(("datagrams", "limit"), [(False, 8), (True, 12)])
def test_sessions_have_unidirectional_streams(
    open_pair: Callable[..., Pair], datagrams: bool, limit: int
) -> None:
    pair = open_pair(datagrams=datagrams, http2_stream_limit=4)
    for number in range(20):
        pair.client.send_stream_data(2 + 4 * number, b"x")
    pair.run()

    assert len([one for one in pair.server._streams if one % 4 == 2]) == limit


def test_address_that_is_not_known_gets_three_times_what_it_has_sent(
    open_pair: Callable[..., Pair],
) -> None:
    """RFC 9000 section 8.1, also of what is repeated."""
    pair = open_pair(is_connected=False)
    now, came, sent = 0.0, 0, 0
    for data, _ in pair.client.datagrams_to_send(now=now):
        came += len(data)
        pair.server.receive_datagram(data, CLIENT, now=now)
    timer: float | None = now
    while timer is not None:
        now = max(now, timer)
        pair.server.handle_timer(now=now)
        sent += sum(len(data) for data, _ in pair.server.datagrams_to_send(now=now))
        timer = pair.server.get_timer()

    assert came < sent <= 3 * came


def test_client_gets_nothing_to_resume_with(open_pair: Callable[..., Pair]) -> None:
    """Without a ticket there is no early data (0-RTT) that could be sent twice."""
    pair = open_pair()
    pair.client.send_stream_data(0, b"x", end_stream=True)
    pair.run()

    assert pair.tickets == []


def test_cipher_is_known(open_pair: Callable[..., Pair]) -> None:
    assert open_pair().server.cipher_suite in (0x1301, 0x1302, 0x1303)


def open_streams(pair: Pair, *priorities: tuple[int, bool] | None) -> None:
    """Have the client open streams, in order, and the server know their priorities."""
    for number in range(len(priorities)):
        pair.client.send_stream_data(4 * number, b"x", end_stream=True)
    pair.run()
    for number, priority in enumerate(priorities):
        if priority is not None:
            pair.server.set_priority(4 * number, *priority)


def receive(pair: Pair) -> list[StreamDataReceived]:
    """Carry all that there is to send; return it in the order in which it came."""
    pair.run()
    received: list[StreamDataReceived] = []
    while (event := pair.client.next_event()) is not None:
        if isinstance(event, StreamDataReceived) and event.stream_id % 4 == 0:
            received.append(event)
    return received


def send_all(pair: Pair, count: int) -> list[StreamDataReceived]:
    for number in range(count):
        pair.server.send_stream_data(4 * number, b"y" * MUCH, end_stream=True)
    return receive(pair)


def find_order(received: list[StreamDataReceived]) -> list[int]:
    return [event.stream_id // 4 for event in received if event.end_stream]


def size_beside(received: list[StreamDataReceived], number: int) -> int:
    """Return how much came on other streams before the end of one."""
    end = next(
        index
        for index, event in enumerate(received)
        if event.end_stream and event.stream_id == 4 * number
    )
    return sum(
        len(event.data) for event in received[:end] if event.stream_id != 4 * number
    )


def test_urgent_streams_are_sent_first(open_pair: Callable[..., Pair]) -> None:
    pair = open_pair()
    open_streams(pair, (7, False), None, (0, False), (4, True), (1, True))

    assert find_order(send_all(pair, 5)) == [2, 4, 1, 3, 0]


def test_streams_of_one_urgency_are_sent_as_they_came(
    open_pair: Callable[..., Pair],
) -> None:
    pair = open_pair()
    open_streams(pair, None, None, None)

    assert find_order(send_all(pair, 3)) == [0, 1, 2]


def test_incremental_streams_take_turns(open_pair: Callable[..., Pair]) -> None:
    pair = open_pair()
    open_streams(pair, (3, True), (3, True))
    received = send_all(pair, 2)

    # One packet of eight is not by turns: one stream may get nine packets, the other
    # seven.
    assert size_beside(received, find_order(received)[0]) > 0.7 * MUCH


def test_last_urgency_does_not_starve(open_pair: Callable[..., Pair]) -> None:
    pair = open_pair()
    open_streams(pair, (0, False), (7, False))

    assert MUCH / 16 < size_beside(send_all(pair, 2), 0) < MUCH / 4


def test_short_response_goes_by_a_long_one(open_pair: Callable[..., Pair]) -> None:
    pair = open_pair()
    open_streams(pair, None, None)
    pair.server.send_stream_data(0, b"y" * LONG_RESPONSE)
    receive(pair)
    pair.server.send_stream_data(0, b"y" * MUCH, end_stream=True)
    pair.server.send_stream_data(4, b"y" * MUCH, end_stream=True)

    assert MUCH / 16 < size_beside(receive(pair), 1) < MUCH / 4


def test_forgotten_priority_is_that_of_all(open_pair: Callable[..., Pair]) -> None:
    pair = open_pair()
    open_streams(pair, (7, False), None)
    pair.server.forget_priority(0)

    assert find_order(send_all(pair, 2)) == [0, 1]


def piece(stream_id: int | None, offset: int) -> bytes:
    """Return a frame with one byte of a stream, or of the handshake."""
    kind = b"\x06" if stream_id is None else b"\x0e" + encode_uint_var(stream_id)
    return kind + encode_uint_var(offset) + b"\1x"


def receive_pieces(pair: Pair, epoch: tls.Epoch, frames: list[bytes]) -> None:
    """Have frames come in one packet. Raises what ends the connection."""
    context = QuicReceiveContext(
        epoch=epoch,
        host_cid=b"",
        network_path=pair.server._network_paths[0],
        quic_logger_frames=None,
        time=pair.now,
        version=None,
    )
    pair.server._payload_received(context, b"".join(frames))


@pytest.mark.parametrize("order", [1, -1])
def test_pieces_in_any_order_become_a_stream(
    open_pair: Callable[..., Pair], order: int
) -> None:
    pair = open_pair()
    # Each second one is late.
    late = [piece(0, offset) for offset in range(0, 2 * PIECES_LIMIT, 2)]
    early = [piece(0, offset) for offset in range(1, 2 * PIECES_LIMIT, 2)]
    receive_pieces(pair, tls.Epoch.ONE_RTT, early[::order])
    receive_pieces(pair, tls.Epoch.ONE_RTT, late[::order])
    got = b""
    while (event := pair.server.next_event()) is not None:
        if isinstance(event, StreamDataReceived):
            got += event.data

    assert got == b"x" * 2 * PIECES_LIMIT


@pytest.mark.parametrize("stream_id", [0, 2, None])
def test_stream_in_too_many_pieces_ends_the_connection(
    open_pair: Callable[..., Pair], stream_id: int | None
) -> None:
    pair = open_pair()
    epoch = tls.Epoch.INITIAL if stream_id is None else tls.Epoch.ONE_RTT
    start = 100_000 if stream_id is None else 1
    frames = [
        piece(stream_id, start + offset) for offset in range(0, 3 * PIECES_LIMIT, 2)
    ]
    receive_pieces(pair, epoch, frames[:PIECES_LIMIT])

    with pytest.raises(Exception, match="too many pieces"):
        receive_pieces(pair, epoch, frames[PIECES_LIMIT:])


def test_client_is_told_that_a_stream_is_in_too_many_pieces(
    open_pair: Callable[..., Pair],
) -> None:
    pair = open_pair()
    client = pair.client
    client.send_stream_data(0, b"x" * 20_000)
    sender = client._streams[0].sender
    sender._pending.subtract(0, 20_000)
    for offset in range(1, 4 * PIECES_LIMIT, 2):
        sender._pending.add(offset, offset + 1)
    pair.run()
    client.handle_timer(now=pair.now + 1000)
    events = []
    while (event := client.next_event()) is not None:
        events.append(event)

    (ended,) = [one for one in events if isinstance(one, ConnectionTerminated)]
    assert ended.error_code == QuicErrorCode.INTERNAL_ERROR
