from __future__ import annotations

from typing import Any

import pytest

from djserve.conf.schema import WebSocketConfig
from djserve.interfaces import Transport
from djserve.protocols.websocket.connection import WebSocketConnection
from djserve.protocols.websocket.turns import FRAME_COST, TURN_COST, Turns
from djserve.testing.transport import MemoryTransport
from tests.protocols.websocket.test_turns import HandLoop

KEY = b"\0\0\0\0"
PING = b"\x89\x00"
CLOSE_1000 = b"\x88\x02\x03\xe8"


class Observer:
    """The exchange's part: notes what it is told."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def message_received(self, data: str | bytes) -> None:
        self.events.append(data)

    def closed(self, code: int, reason: str) -> None:
        self.events.append((code, reason))

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")


class Peer:
    """An open connection with all that stands around it, seen from its peer."""

    def __init__(self, turns: Turns | None = None, **config: Any) -> None:
        self.observer = Observer()
        self.resets: list[Transport] = []
        self.connection = WebSocketConnection(
            WebSocketConfig(**config),
            self.observer,
            write_timeout=30.0,
            turns=turns,
            reset=self.reset,
        )
        self.transport = MemoryTransport(self.connection)
        self.connection.attach(self.transport)

    def reset(self, transport: Transport) -> None:
        self.resets.append(transport)
        transport.abort()

    @property
    def events(self) -> list[Any]:
        return self.observer.events

    def send(self, *frames: bytes) -> None:
        self.transport.feed(*frames)

    def take(self) -> bytes:
        return self.transport.take()

    def is_closing(self) -> bool:
        return self.transport.is_closing

    def is_aborted(self) -> bool:
        return self.transport.is_aborted

    def is_held_back(self) -> bool:
        return self.transport.reading_paused

    def tick(self, *times: float) -> None:
        for now in times:
            self.connection.tick(now)


def frame(opcode: int, payload: bytes = b"", fin: bool = True) -> bytes:
    assert len(payload) < 126
    return bytes((fin << 7 | opcode, 0x80 | len(payload))) + KEY + payload


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(8, code.to_bytes(2, "big") + reason)


def test_messages_go_both_ways() -> None:
    peer = Peer()
    peer.send(frame(1, b"hi"), frame(2, b""))
    peer.connection.send_text("é")
    peer.connection.send_binary(b"")

    assert peer.events == ["hi", b""]
    assert peer.take() == b"\x81\x02\xc3\xa9\x82\x00"


def test_each_message_is_one_write() -> None:
    peer = Peer()
    peer.connection.send_binary(bytes(70000))

    assert len(peer.transport.writes) == 1


def test_ping_is_answered() -> None:
    peer = Peer()
    peer.send(frame(9, b"abc"))

    assert peer.take() == b"\x8a\x03abc"


def test_only_the_latest_ping_is_answered_to_a_peer_that_reads_nothing() -> None:
    peer = Peer()
    peer.transport.fill()
    peer.send(frame(9, b"1"), frame(9, b"2"))
    assert peer.take() == b""

    peer.transport.drain()

    assert peer.take() == b"\x8a\x012"


def test_peers_close_is_answered_and_the_transport_closed() -> None:
    peer = Peer()
    peer.send(close(4001, b"bye") + frame(1, b"late"))

    assert peer.take() == b"\x88\x05\x0f\xa1bye"
    assert peer.is_closing()
    assert peer.events == [(4001, "bye")]


def test_close_without_code_is_reported_as_1005() -> None:
    peer = Peer()
    peer.send(frame(8))

    assert peer.events == [(1005, "")]
    assert peer.take() == b"\x88\x00"


def test_loss_without_close_is_reported_as_1006_once() -> None:
    peer = Peer()
    peer.transport.lose(ConnectionResetError())
    peer.connection.tick(1.0)

    assert peer.events == [(1006, "")]


def test_end_of_the_peers_sending_is_reported_as_1006() -> None:
    peer = Peer()
    peer.transport.feed_eof()
    peer.transport.lose()

    assert peer.events == [(1006, "")]
    assert peer.is_closing()


def test_our_close_waits_for_the_peers() -> None:
    peer = Peer()
    peer.connection.close(1000, "")
    assert peer.take() == CLOSE_1000
    assert not peer.is_closing()

    peer.send(frame(1, b"on its way") + close(1000))
    peer.transport.lose()

    assert peer.is_closing()
    assert peer.events == [(1000, "")]


def test_second_close_and_late_messages_are_not_sent() -> None:
    peer = Peer()
    peer.connection.close(4000)
    peer.take()

    peer.connection.close(4001)
    peer.connection.send_text("late")
    peer.connection.send_binary(b"late")
    peer.send(frame(9, b"ping"))

    assert peer.take() == b""


def test_eof_ends_the_closing_handshake() -> None:
    peer = Peer()
    peer.connection.close()
    peer.transport.feed_eof()

    assert peer.is_closing()


def test_close_timeout_aborts() -> None:
    peer = Peer(websocket_close_timeout=10.0)
    peer.connection.close()
    peer.tick(0, 1, 9.9)
    assert not peer.is_aborted()

    peer.tick(10)

    assert peer.is_aborted()


def test_close_timeout_aborts_a_peer_that_closed_and_takes_nothing() -> None:
    peer = Peer(websocket_close_timeout=10.0)
    peer.send(close(1000))
    peer.tick(0, 10)

    assert peer.is_aborted()


@pytest.mark.parametrize("code", [1004, 1005, 1006, 1015, 999, 5000])
def test_code_that_must_not_be_sent_is_refused(code: int) -> None:
    peer = Peer()

    with pytest.raises(ValueError, match=f"got {code}"):
        peer.connection.close(code)
    assert peer.connection.is_open
    assert peer.take() == b""


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x01a", 1002),
        (frame(1, b"\xff"), 1007),
        (b"\x82\xff" + (1 << 21).to_bytes(8, "big") + KEY, 1009),
    ],
    ids=["unmasked", "bad UTF-8", "too large"],
)
def test_bad_frame_closes_with_its_code(data: bytes, code: int) -> None:
    peer = Peer()
    peer.send(data)

    assert peer.take()[2:4] == code.to_bytes(2, "big")
    assert [event[0] for event in peer.events] == [code]
    assert not peer.connection.is_open


def test_answer_to_a_failure_closes_the_transport() -> None:
    peer = Peer()
    peer.send(frame(1, b"\xff") + frame(1, b"more") + close(1007))

    assert peer.is_closing()


def test_drain_closes_with_service_restart() -> None:
    peer = Peer()
    peer.connection.drain()

    assert peer.take() == b"\x88\x11\x03\xf4Service Restart"
    assert peer.events == [(1012, "Service Restart")]


def test_pings_come_at_their_interval() -> None:
    peer = Peer(websocket_ping_interval=20.0)
    peer.tick(100, 119)
    assert peer.take() == b""

    peer.tick(120)
    assert peer.take() == PING
    peer.send(frame(10))
    peer.tick(121, 139, 140)

    assert peer.take() == PING


def test_no_pings_where_they_are_turned_off() -> None:
    peer = Peer(websocket_ping_interval=0)
    peer.tick(0, 1000)

    assert peer.take() == b""


def test_unanswered_ping_closes_with_1011() -> None:
    peer = Peer(websocket_ping_interval=20.0, websocket_ping_timeout=30.0)
    peer.tick(0, 20, 49.9)
    assert peer.connection.is_open
    peer.take()

    peer.tick(50)

    assert peer.take() == b"\x88\x0e\x03\xf3Ping timeout"
    assert peer.is_closing()
    assert peer.events == [(1011, "Ping timeout")]


def test_any_byte_answers_a_ping() -> None:
    peer = Peer(websocket_ping_interval=20.0, websocket_ping_timeout=30.0)
    peer.tick(0, 20)
    peer.send(frame(2, bytes(99))[:50])
    peer.tick(49, 51)

    assert peer.connection.is_open


def test_bytes_before_a_ping_do_not_answer_it() -> None:
    peer = Peer(websocket_ping_interval=20.0, websocket_ping_timeout=30.0)
    peer.tick(0)
    peer.send(frame(1))
    peer.tick(20, 50)

    assert not peer.connection.is_open


def test_peer_that_we_do_not_read_is_not_blamed_for_silence() -> None:
    peer = Peer(websocket_ping_interval=20.0, websocket_ping_timeout=30.0)
    peer.connection.pause_reading()
    peer.tick(0, 20, 30, 60)

    assert peer.connection.is_open


def test_peer_that_takes_nothing_gets_no_pings() -> None:
    peer = Peer(websocket_ping_interval=5.0)
    peer.tick(0)
    peer.transport.fill()
    peer.tick(5, 10)

    assert peer.take() == b""


def test_lifetime_ends_with_1001() -> None:
    peer = Peer(websocket_timeout=60.0, websocket_ping_interval=0)
    peer.tick(5, 64.9)
    assert peer.connection.is_open

    peer.tick(65)

    assert peer.take()[2:4] == b"\x03\xe9"
    assert peer.events == [(1001, "Lifetime limit reached")]


def test_negative_lifetime_is_none() -> None:
    peer = Peer(websocket_timeout=-1.0, websocket_ping_interval=0)
    peer.tick(0, 1e9)

    assert peer.connection.is_open


def test_peer_that_takes_nothing_for_the_write_timeout_is_aborted() -> None:
    peer = Peer(websocket_ping_interval=0)
    peer.tick(0, 10)
    peer.connection.send_binary(bytes(100))
    peer.transport.fill()
    peer.tick(11, 39.9)
    assert not peer.is_aborted()

    peer.tick(40)
    peer.transport.lose()

    assert peer.is_aborted()
    assert peer.resets == [peer.transport]
    assert peer.events == ["pause", (1006, "")]


def test_peer_that_takes_some_while_we_write_more_is_not_stalled() -> None:
    peer = Peer(websocket_ping_interval=0)
    peer.tick(0)
    peer.transport.fill()
    for now in range(10, 200, 10):
        peer.connection.send_binary(bytes(20))
        peer.transport.data = peer.transport.data[5:]
        peer.tick(now)

    assert not peer.is_aborted()


def test_writing_more_does_not_hide_a_stall() -> None:
    peer = Peer(websocket_ping_interval=0)
    peer.tick(0)
    peer.transport.fill()
    for now in (10, 20, 30, 40, 50):
        peer.connection.send_binary(bytes(20))
        peer.tick(now)

    assert peer.is_aborted()


def test_back_pressure_reaches_the_observer() -> None:
    peer = Peer()
    peer.transport.fill()
    peer.transport.drain()

    assert peer.events == ["pause", "resume"]


def test_paused_reading_keeps_messages_and_holds_the_peer_back() -> None:
    peer = Peer()
    peer.connection.pause_reading()
    peer.send(frame(1, b"a"), frame(1, b"b"))
    assert peer.is_held_back()
    assert peer.events == []

    peer.connection.resume_reading()

    assert not peer.is_held_back()
    assert peer.events == ["a", "b"]


class SlowObserver(Observer):
    """Takes one message, then wants a rest."""

    connection: WebSocketConnection

    def message_received(self, data: str | bytes) -> None:
        super().message_received(data)
        self.connection.pause_reading()


def test_reading_that_pauses_while_it_resumes_stays_paused() -> None:
    observer = SlowObserver()
    connection = WebSocketConnection(WebSocketConfig(), observer, write_timeout=30.0)
    observer.connection = connection
    transport = MemoryTransport(connection)
    connection.attach(transport)
    transport.feed(frame(1, b"a") + frame(1, b"b") + frame(1, b"c"))

    connection.resume_reading()

    assert observer.events == ["a", "b"]
    assert transport.reading_paused


def test_closing_reads_again_to_find_the_answer() -> None:
    peer = Peer()
    peer.connection.pause_reading()
    peer.send(frame(1, b"held") + close(1000))
    peer.connection.close()

    assert not peer.is_held_back()
    assert peer.is_closing()
    assert peer.events == [(1000, "")]


def test_reading_is_paused_before_there_is_a_transport() -> None:
    connection = WebSocketConnection(WebSocketConfig(), Observer(), write_timeout=30.0)
    connection.pause_reading()
    connection.tick(0)
    transport = MemoryTransport(connection)

    connection.attach(transport)

    assert transport.reading_paused


def test_connection_that_was_lost_does_not_begin() -> None:
    connection = WebSocketConnection(WebSocketConfig(), Observer(), write_timeout=30.0)
    connection.connection_lost(None)
    transport = MemoryTransport(connection)
    connection.attach(transport)
    connection.send_text("late")
    connection.resume_reading()
    connection.data_received(frame(9))

    assert transport.writes == []


def test_text_that_utf_8_cannot_carry_raises() -> None:
    with pytest.raises(UnicodeEncodeError):
        Peer().connection.send_text("\ud800")


# Turns: what a connection may cost the others at a time.


def open_crowd(count: int) -> tuple[HandLoop, list[Peer]]:
    """Open connections that share the turns of one loop."""
    loop = HandLoop()
    turns = Turns(loop)
    return loop, [Peer(turns=turns) for _ in range(count)]


def many_pongs(turns: int) -> bytes:
    return frame(10) * (TURN_COST // FRAME_COST * turns)


def test_peer_that_has_used_up_a_turn_is_held_back_until_its_next() -> None:
    loop, [peer] = open_crowd(1)
    peer.send(many_pongs(2) + frame(1, b"hi"))
    assert peer.is_held_back()

    loop.turn()
    assert peer.events == ["hi"]
    assert not peer.is_held_back()


def test_peer_that_sent_little_is_read_before_those_that_sent_much() -> None:
    loop, [loud, quiet] = open_crowd(2)
    loud.send(many_pongs(5))
    quiet.send(frame(9, b"a"))
    assert quiet.take() == b""

    loop.turn()

    assert quiet.take() == b"\x8a\x01a"
    assert loud.is_held_back()


def test_paused_application_keeps_the_peer_held_back_in_its_turn() -> None:
    loop, [peer] = open_crowd(1)
    peer.send(many_pongs(1) + frame(10) + frame(1, b"hi"))
    peer.connection.pause_reading()

    loop.turn()
    assert (peer.events, peer.is_held_back()) == ([], True)

    peer.connection.resume_reading()
    loop.turn()
    assert (peer.events, peer.is_held_back()) == (["hi"], False)


def test_application_that_resumes_does_not_end_the_wait_for_a_turn() -> None:
    loop, [peer] = open_crowd(1)
    peer.send(many_pongs(2))
    peer.connection.pause_reading()
    peer.connection.resume_reading()

    assert peer.is_held_back()
    loop.turn()
    assert not peer.is_held_back()


def test_connection_that_ends_while_it_waits_is_left_alone() -> None:
    loop, [peer] = open_crowd(1)
    peer.send(many_pongs(2))
    peer.transport.lose()

    loop.turn()

    assert peer.events == [(1006, "")]


def test_peer_that_waits_for_its_turn_does_not_miss_a_ping() -> None:
    _, [peer] = open_crowd(1)
    peer.send(many_pongs(2))
    peer.tick(0.0, 20.0, 51.0)

    assert peer.events == []


def test_close_that_waits_for_a_turn_is_answered_in_it() -> None:
    loop, [peer] = open_crowd(1)
    peer.send(many_pongs(1) + frame(10) + close(1000))
    assert peer.take() == b""

    loop.turn()

    assert peer.take() == CLOSE_1000
    assert peer.is_closing()
