"""The first bytes of a cleartext connection."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.protocols.http2.frames import PREFACE
from djserve.protocols.http2.preface import PrefaceDetector
from djserve.testing.transport import MemoryTransport


class Chosen:
    """The protocol that took the connection over."""

    def __init__(self, is_http2: bool) -> None:
        self.is_http2 = is_http2
        self.mark = 0
        self.data = b""
        self.is_draining = False
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True

    def tick(self, now: float) -> None: ...
    def abort_transport(self) -> None: ...

    idle_since = None
    held_size = 0

    def give_way(self) -> bool:
        return False

    def drain(self) -> None:
        self.is_draining = True
        self.data_at_drain = self.data


class Opening:
    """A connection nothing is known of yet."""

    def __init__(self) -> None:
        self.chosen: list[Chosen] = []
        self.ended = 0
        self.is_unread = False
        self.transport = MemoryTransport()
        self.detector = PrefaceDetector(
            self.transport,
            5.0,
            self._choose,
            lambda detector: self._end(),
            lambda transport: self.is_unread,
        )
        self.transport.set_protocol(self.detector)

    @property
    def is_ended_as_http1(self) -> bool:
        return [(c.is_http2, c.is_draining) for c in self.chosen] == [(False, True)]

    def _choose(self, detector: PrefaceDetector, is_http2: bool) -> Chosen:
        self.chosen.append(Chosen(is_http2))
        return self.chosen[-1]

    def _end(self) -> None:
        self.ended += 1


@given(st.lists(st.integers(1, len(PREFACE) + 3)))
def test_preface_is_known_in_any_pieces(cuts: list[int]) -> None:
    opening = Opening()
    data = PREFACE + b"more"
    edges = [0, *sorted(set(cuts)), len(data)]
    opening.transport.feed(*[data[a:b] for a, b in pairwise(edges) if a < b])

    assert [chosen.is_http2 for chosen in opening.chosen] == [True]
    assert opening.chosen[0].data == data


@pytest.mark.parametrize("data", [b"G", b"POST", b"PRI / HTTP/1.1", b"\x16\x03"])
def test_anything_else_is_http_1(data: bytes) -> None:
    opening = Opening()
    for at in range(len(data)):
        opening.transport.feed(data[at : at + 1])

    assert [chosen.is_http2 for chosen in opening.chosen] == [False]
    assert opening.chosen[0].data == data


def test_first_bytes_leave_a_mark() -> None:
    opening = Opening()
    assert opening.detector.mark == 0

    opening.transport.feed(PREFACE[:3])
    assert opening.detector.mark > 0


def test_silent_connection_is_closed() -> None:
    opening = Opening()
    opening.detector.tick(0.0)
    opening.detector.tick(4.9)
    assert opening.chosen == []

    opening.detector.tick(5.0)
    assert opening.is_ended_as_http1


def test_preface_that_meets_the_timeout_is_taken() -> None:
    opening = Opening()
    opening.detector.tick(0.0)
    opening.is_unread = True
    opening.detector.tick(5.0)
    assert opening.chosen == []

    opening.transport.feed(PREFACE)
    assert [chosen.is_http2 for chosen in opening.chosen] == [True]


def test_pieces_of_a_preface_put_off_the_end_only_once() -> None:
    opening = Opening()
    opening.detector.tick(0.0)
    opening.is_unread = True
    opening.detector.tick(5.0)
    opening.transport.feed(PREFACE[:3])
    opening.detector.tick(6.0)

    assert opening.is_ended_as_http1


def test_end_before_a_choice_is_told() -> None:
    opening = Opening()
    opening.transport.lose()

    assert opening.ended == 1


@pytest.mark.parametrize("choose", ["data", "drain", "timeout"])
def test_end_that_crosses_the_choice_is_told_to_the_chosen(choose: str) -> None:
    opening = Opening()
    if choose == "data":
        opening.detector.data_received(PREFACE)
    elif choose == "drain":
        opening.detector.drain()
    else:
        opening.detector.tick(0.0)
        opening.detector.tick(5.0)
    # A transport of TLS had named the detector for this before.
    opening.detector.connection_lost(None)

    assert [chosen.is_lost for chosen in opening.chosen] == [True]
    assert opening.ended == 0


def test_drain_closes_what_is_silent() -> None:
    opening = Opening()
    opening.detector.drain()

    assert opening.is_ended_as_http1


def test_drain_reaches_what_has_begun() -> None:
    opening = Opening()
    opening.transport.feed(b"P")
    opening.detector.drain()
    opening.transport.feed(b"OST")

    assert opening.chosen[0].is_draining
    assert opening.chosen[0].data_at_drain == b"POST"


def test_silent_connection_makes_room_for_others() -> None:
    opening = Opening()
    assert not opening.detector.give_way()

    opening.detector.tick(7.0)
    assert opening.detector.idle_since == (False, 7.0)
    assert opening.detector.give_way()
    assert opening.is_ended_as_http1


@pytest.mark.parametrize("is_unread", [False, True])
def test_connection_that_has_begun_makes_no_room(is_unread: bool) -> None:
    opening = Opening()
    opening.detector.tick(7.0)
    if is_unread:
        opening.is_unread = True
    else:
        opening.transport.feed(b"PRI")

    assert not opening.detector.give_way()
    assert opening.chosen == []
