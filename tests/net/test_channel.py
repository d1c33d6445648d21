"""Messages and descriptors between two ends."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from djserve.net.channel import Channel, open_pair

Pair = tuple[Channel, Channel]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = open_pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_messages_arrive_in_their_order(pair: Pair) -> None:
    pair[0].send({"number": 1})
    pair[0].send({"number": 2, "text": "line\nbreak"})

    assert pair[1].receive() == [{"number": 1}, {"number": 2, "text": "line\nbreak"}]


def test_nothing_to_receive_is_no_message(pair: Pair) -> None:
    assert pair[1].receive() == []


def test_descriptors_arrive_with_their_messages(pair: Pair) -> None:
    reader, writer = os.pipe()
    pair[0].send({"what": "pipe"}, (writer,))
    os.close(writer)
    pair[1].receive()
    copy = pair[1].take_descriptor()
    os.write(copy, b"through")
    os.close(copy)

    assert os.read(reader, 100) == b"through"
    os.close(reader)


def test_message_larger_than_the_socket_takes_waits_for_flush(pair: Pair) -> None:
    text = "x" * 2_000_000
    pair[0].send({"text": text})
    assert pair[0].has_output
    received: list[dict[str, object]] = []
    while not received:
        received = pair[1].receive()
        pair[0].flush()

    assert received == [{"text": text}]
    assert not pair[0].has_output


def test_descriptor_behind_a_large_message_outlives_its_owner(pair: Pair) -> None:
    reader, writer = os.pipe()
    pair[0].send({"text": "x" * 2_000_000})
    pair[0].send({"what": "pipe"}, (reader,))
    os.close(reader)
    os.write(writer, b"late")
    received: list[dict[str, object]] = []
    while len(received) < 2:
        received += pair[1].receive()
        pair[0].flush()
    copy = pair[1].take_descriptor()

    assert os.read(copy, 100) == b"late"
    os.close(copy)
    os.close(writer)


def test_end_of_the_peer_is_told_after_its_last_message(pair: Pair) -> None:
    pair[0].send({"last": True})
    pair[0].close()

    assert pair[1].receive() == [{"last": True}]
    with pytest.raises(EOFError):
        pair[1].receive()


def test_sending_to_a_peer_that_is_gone_raises_nothing(pair: Pair) -> None:
    pair[1].close()
    pair[0].send({"lost": True})

    assert not pair[0].has_output


def test_channel_can_be_adopted_by_its_number(pair: Pair) -> None:
    adopted = Channel.adopt(os.dup(pair[1].fileno()))
    pair[0].send({"number": 1})

    assert adopted.receive() == [{"number": 1}]
    adopted.close()
    assert adopted.fileno() == -1


def test_descriptors_that_nobody_took_are_closed(pair: Pair) -> None:
    reader, writer = os.pipe()
    pair[0].send({}, (writer,))
    os.close(writer)
    pair[1].receive()
    pair[1].close()

    assert os.read(reader, 1) == b""
    os.close(reader)
