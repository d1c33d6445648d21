from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from djserve.channels.folder import LayerFolder, find_folder
from djserve.channels.frames import FrameKind, FrameReader
from djserve.channels.peers import Peers
from djserve.channels.register import State
from tests.channels.other_end import OtherEnd
from tests.support.shortage import without_descriptors

pytestmark = pytest.mark.e2e


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def peers(process: OtherEnd, folder: str, calls: list[str]) -> Iterator[Peers]:
    place = LayerFolder(find_folder(folder, "asgi"))
    peers = Peers(place, "self", 1 << 16, lambda: calls.append("backlog"))
    yield peers
    peers.close()


def test_processes_are_found_and_forgotten(peers: Peers, process: OtherEnd) -> None:
    assert peers.find("other") is not None
    assert peers.find("third") is None
    process.place.remove("other")
    assert peers.find("other") is None
    assert list(peers) == []


@pytest.mark.parametrize("spare", [0, 1])
def test_process_is_found_once_there_are_descriptors_again(
    peers: Peers, process: OtherEnd, spare: int
) -> None:
    # Long since as it is: no change of the folder would have it read again.
    os.utime(process.place.path, (0, 0))
    with without_descriptors(spare), contextlib.suppress(OSError):
        assert peers.find("other") is None

    assert peers.find("other") is not None


def test_process_with_new_files_is_met_anew(
    peers: Peers, process: OtherEnd, folder: str
) -> None:
    old = peers.find("other")
    process.place.remove("other")
    process.end()
    again = OtherEnd(folder)
    new = peers.find("other")

    assert new is not None
    assert new is not old
    again.end()
    again.register.close()


def test_group_message_goes_once_to_those_with_members(
    peers: Peers, process: OtherEnd
) -> None:
    peers.look()
    peers.push_group("room", b"nobody there", 1e9, 0.0)
    process.register.add_group("room")
    peers.push_group("room", b"hello", 1e9, 0.0)
    reader = FrameReader(1000)
    reader.feed(process.read(16 + 4 + 5))
    frame = reader.take()

    assert frame == (FrameKind.GROUP, "room", 1e9, b"hello")


def test_plain_name_goes_to_one_that_is_attended_and_in_that_state(
    peers: Peers, process: OtherEnd
) -> None:
    peers.look()
    process.register.set_state("jobs", State.WAITING)
    assert not peers.push_plain("jobs", b"", 1e9, 0.0, State.WAITING)
    process.register.beat(5.0)
    assert not peers.push_plain("jobs", b"", 1e9, 0.0, State.BUSY)
    assert not peers.push_plain("jobs", b"", 1e9, 6.0, State.WAITING)
    assert peers.push_plain("jobs", b"", 1e9, 0.0, State.WAITING)


def test_backlog_is_told_of_and_written_later(
    peers: Peers, process: OtherEnd, calls: list[str]
) -> None:
    peer = peers.find("other")
    assert peer is not None
    sent = 0
    while not calls:
        assert peers.push(peer, bytes(4096), 1e9)
        sent += 4096
    assert peers.flush(0.0) == [peer]
    assert list(peers.attended(-1.0)) == []
    while sent:
        sent -= len(process.read(4096))
        peers.flush(0.0)
    assert peers.flush(0.0) == []


def test_killed_process_is_taken_out_of_the_folder(
    peers: Peers, process: OtherEnd
) -> None:
    peer = peers.find("other")
    assert peer is not None
    process.end()
    process.register.close()
    peers.push(peer, b"x", 1e9)

    assert list(peers) == []
    assert os.listdir(process.place.path) == []
    process.register = type(process.register)(
        process.place.register_of("other"), os.geteuid()
    )
