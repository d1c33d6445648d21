"""Full packets without aioquic's builder: whole content, and nothing else starved."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from aioquic.quic.events import PingAcknowledged, StreamDataReceived

from djserve.net.quic.bulk import BulkWriter, Pacer

if TYPE_CHECKING:
    from tests.net.quic.conftest import Pair

CONTENT = Random(1).randbytes(400_000)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes that are written as full packets."""
    sizes: list[int] = []
    write = BulkWriter.write

    def note(writer: BulkWriter, *given: Any) -> int:
        sizes.append(write(writer, *given))
        return sizes[-1]

    monkeypatch.setattr(BulkWriter, "write", note)
    return sizes


def send(pair: Pair, content: bytes) -> None:
    pair.client.send_stream_data(0, b"x", end_stream=True)
    pair.run()
    pair.server.send_stream_data(0, content, end_stream=True)


def read(pair: Pair) -> tuple[bytes, bool]:
    """Return what has come to the client on its first stream, and whether it is all."""
    content, is_ended = bytearray(), False
    while (event := pair.client.next_event()) is not None:
        if isinstance(event, StreamDataReceived) and event.stream_id == 0:
            content += event.data
            is_ended |= event.end_stream
    return bytes(content), is_ended


def test_content_is_whole(open_pair: Callable[..., Pair], written: list[int]) -> None:
    pair = open_pair()
    send(pair, CONTENT)
    pair.run()

    assert read(pair) == (CONTENT, True)
    assert sum(written) > 0.8 * len(CONTENT)
    assert pair.server.unacknowledged_size == 0


@pytest.mark.parametrize("loss", [0.05, 0.3])
def test_lost_packets_are_sent_again(
    open_pair: Callable[..., Pair], written: list[int], loss: float
) -> None:
    pair = open_pair()
    send(pair, CONTENT)
    pair.lose(Random(2), loss)
    pair.run_until(lambda: not pair.server.unacknowledged_size)

    assert read(pair) == (CONTENT, True)
    assert sum(written)


def test_windows_of_the_peer_and_of_the_path_are_kept(
    open_pair: Callable[..., Pair], written: list[int]
) -> None:
    """The client's windows have 1 MiB, and grow as it gets content."""
    pair = open_pair()
    send(pair, 8 * CONTENT)
    server, most = pair.server, 0
    while pair.step():
        flight = server._loss.bytes_in_flight
        assert flight <= server._loss.congestion_window
        most = max(most, flight)
        stream = server._streams.get(0)
        if stream is not None:
            assert stream.sender.highest_offset <= stream.max_stream_data_remote
        assert server._remote_max_data_used <= server._remote_max_data

    assert read(pair) == (8 * CONTENT, True)
    assert sum(written) > 6 * len(CONTENT)
    assert most > 10_000


def test_window_that_does_not_grow_stops_it(
    open_pair: Callable[..., Pair], written: list[int]
) -> None:
    pair = open_pair()
    pair.client.send_stream_data(0, b"x", end_stream=True)
    pair.run()
    stream = pair.server._streams[0]
    stream.max_stream_data_remote = 100_000
    pair.server.send_stream_data(0, CONTENT)
    pair.run()
    assert stream.sender.highest_offset == 100_000
    assert 60_000 < sum(written) < 100_000
    stream.max_stream_data_remote = len(CONTENT)
    pair.run()

    assert read(pair)[0] == CONTENT


def test_other_frames_do_not_wait_for_the_end(
    open_pair: Callable[..., Pair], written: list[int]
) -> None:
    pair = open_pair()
    send(pair, CONTENT)
    pair.step()
    pair.server.send_ping(1)
    while not has_answer(pair):
        assert pair.step()

    assert pair.server._streams[0].sender.highest_offset < len(CONTENT) / 2


def has_answer(pair: Pair) -> bool:
    while (event := pair.server.next_event()) is not None:
        if isinstance(event, PingAcknowledged):
            return True
    return False


def test_keys_may_change_on_the_way(
    open_pair: Callable[..., Pair], written: list[int]
) -> None:
    pair = open_pair()
    send(pair, CONTENT)
    for end in (pair.client, pair.server):
        for _ in range(3):
            pair.step()
        end.request_key_update()
    assert pair.server._streams[0].sender.highest_offset < len(CONTENT)
    pair.run()

    assert read(pair) == (CONTENT, True)


def test_reset_stream_sends_no_more(
    open_pair: Callable[..., Pair], written: list[int]
) -> None:
    pair = open_pair()
    send(pair, CONTENT)
    pair.step()
    pair.server.reset_stream(0, 0x10C)
    pair.server.drop_output(0)
    before = sum(written)
    pair.run()

    assert sum(written) == before > 0
    assert not read(pair)[1]


def test_many_streams_come_whole(
    open_pair: Callable[..., Pair], written: list[int]
) -> None:
    pair = open_pair()
    kinds = [(3, True), (3, True), (3, False), (0, False), (7, True), (3, False)]
    for number, kind in enumerate(kinds):
        pair.client.send_stream_data(4 * number, b"x", end_stream=True)
        pair.run()
        pair.server.set_priority(4 * number, *kind)
        size = 300 if number == 5 else 200_000
        pair.server.send_stream_data(4 * number, CONTENT[:size], end_stream=True)
    pair.run()
    received: dict[int, bytes] = {}
    while (event := pair.client.next_event()) is not None:
        if isinstance(event, StreamDataReceived) and event.stream_id % 4 == 0:
            before = received.get(event.stream_id, b"")
            received[event.stream_id] = before + event.data

    assert [received[4 * number] for number in range(5)] == [CONTENT[:200_000]] * 5
    assert received[20] == CONTENT[:300]
    assert sum(written) > 700_000


def use_up(pacer: Pacer, now: float) -> int:
    """Send packets until the pacer says no; return how many."""
    count = 0
    while pacer.next_send_time(now) is None:
        pacer.update_after_send(now)
        count += 1
    return count


@pytest.mark.parametrize(
    ("megabytes_in_a_second", "count"), [(0.1, 2), (1.2, 16), (48, 50), (480, 64)]
)
def test_pacer_lets_go_what_is_worth_a_timer(
    megabytes_in_a_second: float, count: int
) -> None:
    pacer = Pacer(max_datagram_size=1200)
    round_trip = 0.1
    window = int(megabytes_in_a_second * 1e6 * round_trip)
    pacer.update_rate(window, round_trip)
    use_up(pacer, 1.0)
    at = pacer.next_send_time(1.0)
    assert at is not None
    assert at >= 1.001
    # What is confirmed in the meantime sends nothing.
    assert pacer.next_send_time(1.0005) == at
    assert use_up(pacer, at) >= 1

    assert count <= use_up(pacer, 2.0) <= 1.25 * count + 2


def test_pacer_uses_the_whole_window() -> None:
    pacer = Pacer(max_datagram_size=1200)
    pacer.update_rate(1_200_000, 0.1)
    use_up(pacer, 1.0)
    now, count = 1.0, 0
    while now < 2.0:
        now = pacer.next_send_time(now) or now
        count += use_up(pacer, now)

    # RFC 9002 section 7.7: 1.25 windows of 1,000 packets for each of ten round trips.
    assert 11_000 < count < 14_000
