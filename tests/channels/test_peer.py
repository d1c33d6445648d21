from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from djserve.channels import peer as peer_module
from djserve.channels.peer import Peer
from tests.channels.other_end import OtherEnd
from tests.support.shortage import without_descriptors

pytestmark = pytest.mark.e2e

LIMIT = 1 << 20
FRAME = bytes(4096)


@pytest.fixture
def peer(process: OtherEnd) -> Iterator[Peer]:
    peer = Peer(process.place, "other", LIMIT)
    yield peer
    peer.close()


def fill(peer: Peer) -> int:
    """Send until nothing more is taken; return how much was."""
    taken = 0
    while peer.push(FRAME, 1e9):
        taken += len(FRAME)
    return taken


def test_frames_arrive_in_order(peer: Peer, process: OtherEnd) -> None:
    assert peer.push(b"one", 1e9)
    assert peer.push(b"two", 1e9)
    assert process.read(6) == b"onetwo"
    assert not peer.has_backlog


def test_frame_waits_for_a_descriptor_to_connect_with(
    peer: Peer, process: OtherEnd
) -> None:
    with without_descriptors():
        assert peer.push(b"one", 1e9)
        assert not peer.flush(0.0)
    assert peer.flush(0.0)
    assert process.read(3) == b"one"


def test_peer_that_reads_nothing_costs_a_bounded_buffer_and_one_line(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "djserve"):
        taken = fill(peer)
        assert not peer.push(FRAME, 1e9)

    # What the kernel holds comes on top.
    assert LIMIT / 2 < taken < LIMIT + (4 << 20)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "process other has left" in caplog.text


def test_peer_that_goes_on_reading_gets_all_that_was_kept(
    peer: Peer, process: OtherEnd
) -> None:
    taken, rest = fill(peer), 0
    while not peer.flush(0.0):
        rest += len(process.read(4096))

    assert len(process.read(taken - rest)) == taken - rest
    assert not peer.has_backlog
    assert peer.push(b"new", 1e9)
    assert process.read(3) == b"new"


def test_what_expires_while_it_is_kept_is_not_sent(
    peer: Peer, process: OtherEnd
) -> None:
    while not peer.has_backlog:
        peer.push(FRAME, 10.0)
    for _ in range(8):
        peer.push(FRAME, 10.0)
    peer.push(b"young", 30.0)
    data = b""
    while not peer.flush(20.0):
        data += process.read(4096)
    peer.push(b"end", 30.0)
    while not data.endswith(b"end"):
        data += process.read(4096)
        peer.flush(20.0)

    assert data.endswith(b"youngend")
    # Frames are sent whole or not at all.
    assert len(data.removesuffix(b"youngend")) % len(FRAME) == 0


def test_process_that_has_ended_is_gone(peer: Peer, process: OtherEnd) -> None:
    assert peer.push(b"one", 1e9)
    process.read(3)
    process.end()

    assert not peer.push(b"two", 1e9)
    assert peer.is_gone
    assert not peer.push(b"three", 1e9)


def test_process_that_does_not_listen_is_gone(peer: Peer, process: OtherEnd) -> None:
    process.end()

    assert not peer.push(b"one", 1e9)
    assert peer.is_gone


def test_full_queue_of_connections_is_waited_for(process: OtherEnd) -> None:
    process.listener.listen(0)
    first, second = (Peer(process.place, "other", LIMIT) for _ in range(2))
    while first.push(b"a", 1e9) and not second.has_backlog:
        assert second.push(b"b", 1e9)
        if not second.has_backlog:
            second.close()
            second = Peer(process.place, "other", LIMIT)
    assert not second.is_gone
    process.read(1)
    assert second.flush(0.0)
    first.close()
    second.close()


def test_socket_of_another_user_is_not_written_to(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_module, "is_trusted", lambda sock, owner: False)

    assert not peer.push(b"secret", 1e9)
    assert peer.is_gone


def test_group_that_was_told_of_a_member_is_wanted_for_a_while(peer: Peer) -> None:
    assert not peer.wants("room", 7, 0.0)
    peer.invite("room", 1e9)
    assert peer.wants("room", 7, 0.0)
    assert not peer.wants("room", 7, 2e9)
    assert not peer.wants("other", 8, 0.0)
