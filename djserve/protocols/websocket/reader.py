"""Bytes to messages: a fast lane for nearly all frames, Autobahn for the others.

A frame that is whole, unfragmented, masked and uncompressed is read in a lane of its
own. Other whole frames that are as they should be (fragments, compressed messages,
pings) are read here too, and charged to the turn. All else is cut out and given to
Autobahn's parser, which decides about what is unusual or wrong; a test compares the two
on any stream of frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.interfaces import (
    CLOSE_INVALID_DATA,
    CLOSE_POLICY_VIOLATION,
    CLOSE_TOO_BIG,
)
from djserve.protocols.websocket.codec import Parser, compressed_limit
from djserve.protocols.websocket.frames import (
    OPCODE_BINARY,
    OPCODE_CLOSE,
    OPCODE_PING,
    OPCODE_PONG,
    OPCODE_TEXT,
)
from djserve.protocols.websocket.masking import NATIVE_FROM, unmask
from djserve.protocols.websocket.turns import FRAME_COST, RUN_COST, TURN_COST, Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.protocols.websocket.codec import Deflate, FrameSink
    from djserve.protocols.websocket.masking import SharedBuffer

_TEXT = 0x80 | OPCODE_TEXT
_BINARY = 0x80 | OPCODE_BINARY
_PLAIN = frozenset({_TEXT, _BINARY})
_PING = 0x80 | OPCODE_PING
_PONG = 0x80 | OPCODE_PONG
_FIN = 0x80
_RSV1 = 0x40
_OTHER_RSV = 0x30

# By the second byte: the length in two bytes or in eight, and not in fewer (RFC 6455
# section 5.2). Shorter ones are left to the lane for all sizes.
_SHORTEST = {0xFE: NATIVE_FROM, 0xFF: 65536}


class FrameReader:
    """Read the frames of one open connection.

    ``deliver`` gets each message, text as str and binary as bytes. It and the sink may
    call ``pause``, ``discard`` and ``stop`` at any time, also from within ``receive``.
    """

    __slots__ = (
        "_buffer",
        "_cost",
        "_deflate",
        "_deliver",
        "_in_lane",
        "_is_busy",
        "_is_discarding",
        "_is_paused",
        "_is_stopped",
        "_is_waiting",
        "_lane_limit",
        "_limits",
        "_opcode",
        "_parser",
        "_position",
        "_rest",
        "_sink",
        "_small_frame_limit",
        "_small_frames",
        "_turns",
    )

    def __init__(
        self,
        sink: FrameSink,
        deliver: Callable[[str | bytes], None],
        *,
        message_limit: int,
        frame_limit: int,
        deflate: Deflate | None = None,
        small_frame_limit: int = 10_000,
        turns: Turns | None = None,
    ) -> None:
        self._sink = sink
        self._deliver = deliver
        self._limits = (message_limit, frame_limit)
        self._lane_limit = min(message_limit, frame_limit)
        self._deflate = deflate
        # What has arrived and is not read yet: nearly always one chunk, or none.
        self._buffer = b""
        self._position = 0
        # The frame that is under way on the slow path.
        self._rest = 0
        self._opcode = 0
        self._parser: Parser | None = None
        self._small_frame_limit = small_frame_limit
        self._small_frames = 0
        self._turns = Turns() if turns is None else turns
        # What this peer alone has cost since ``refill``.
        self._cost = 0
        self._is_waiting = False
        self._in_lane = True
        self._is_busy = False
        self._is_paused = False
        self._is_discarding = False
        self._is_stopped = False

    @property
    def held_size(self) -> int:
        """Bytes that have arrived and are not delivered."""
        size = len(self._buffer) - self._position
        return size if self._parser is None else size + self._parser.held_size

    def receive(self, data: bytes) -> None:
        """Read a chunk as it came from the transport."""
        if self._is_stopped:
            return
        if self._position < len(self._buffer):
            data = self._buffer[self._position :] + data
        self._buffer = data
        self._position = 0
        if not self._is_busy:
            self._read()

    def receive_from(self, buffer: SharedBuffer, size: int) -> None:
        """Read a chunk out of a buffer that is another's when this returns.

        Long messages are unmasked where they lie and decoded from there: each copy of
        16 KiB takes a fortieth of an echo (benchmark: websocket_echo_16k).
        """
        position = 0
        if self._position == len(self._buffer) and self._may_read_lane():
            position = self._read_long(buffer, size)
        if position < size:
            self.receive(bytes(buffer.view[position:size]))

    def refill(self) -> None:
        """Forget what the peer has sent so far; called about once a second."""
        self._small_frames = 0
        self._cost = 0

    def pause(self) -> None:
        """Deliver nothing until ``resume``; what has arrived is kept."""
        self._is_paused = True
        self._in_lane = False

    def resume(self) -> None:
        """Deliver again, beginning with what has been kept."""
        self._is_paused = False
        if self._is_busy or self._position == len(self._buffer):
            return
        # A receiver that takes all at once would be handed one full queue after the
        # other, and no one else would have a turn.
        self._charge(RUN_COST, 0)
        self._read(is_charged=True)

    def proceed(self) -> None:
        """Read on in a new turn (``FrameSink.turn_spent``)."""
        self._is_waiting = False
        if not self._is_busy:
            self._read()

    def discard(self) -> None:
        """Skip all from now on, up to the peer's Close frame: ours has been sent.

        Autobahn would keep inflating and validating what is no longer wanted.
        """
        self._is_discarding = True
        self._is_paused = False
        self._in_lane = False
        self._parser = None
        if not self._is_busy:
            self._read()

    def stop(self) -> None:
        """Read nothing more and release everything."""
        self._is_stopped = True
        self._in_lane = False
        self._buffer = b""
        self._position = 0
        self._parser = self._deflate = None

    def _read(self, *, is_charged: bool = False) -> None:
        self._is_busy = True
        while self._position < len(self._buffer) and self._may_read():
            if is_charged and self._turns.left <= 0:
                self._wait()
                break
            self._in_lane = self._may_read_lane()
            if self._in_lane:
                self._read_lane()
                if self._position == len(self._buffer) or not self._may_read():
                    break
            if self._turns.left <= 0:
                self._wait()
                break
            if not self._read_whole_frames() and not self._read_frame():
                break
        self._is_busy = False
        if self._position == len(self._buffer) or self._is_stopped:
            self._buffer = b""
            self._position = 0

    def _wait(self) -> None:
        """Leave what has arrived for a later turn."""
        self._is_waiting = True
        self._in_lane = False
        self._sink.turn_spent(is_heavy=self._cost >= TURN_COST)

    def _charge(self, cost: int, frames: int = 1) -> None:
        self._cost += cost
        self._turns.spend(cost, frames)

    def _may_read(self) -> bool:
        return not self._is_paused and not self._is_stopped and not self._is_waiting

    def _may_read_lane(self) -> bool:
        return not self._is_discarding and self._parser is None

    def _read_long(self, buffer: SharedBuffer, size: int) -> int:
        """Deliver the long messages at a chunk's beginning; return where they end."""
        data, position, limit = buffer.data, 0, self._lane_limit
        self._in_lane = self._may_read()
        while self._in_lane and size - position > NATIVE_FROM:
            first, kind = data[position], data[position + 1]
            if (first != _TEXT and first != _BINARY) or kind < 0xFE:
                break
            start = position + (8 if kind == 0xFE else 14)
            length = int.from_bytes(data[position + 2 : start - 4], "big")
            end = start + length
            if end > size or length > limit or length < _SHORTEST[kind]:
                break
            message = buffer.take_payload(start, end, first == _TEXT)
            if message is None:
                break
            position = end
            self._deliver(message)
        return position

    def _read_lane(self) -> None:
        """Read whole, unfragmented, masked, uncompressed messages; stop at all else.

        Autobahn needs 20 us for such a frame (benchmark: websocket_echo). What is
        malformed is left to it too, so that both paths fail alike.
        """
        data, position = self._buffer, self._position
        size, limit, deliver = len(data), self._lane_limit, self._deliver
        while size - position >= 6:
            first = data[position]
            length = data[position + 1] - 0x80
            if (first != _TEXT and first != _BINARY) or length < 0:
                return
            if length < 126:
                start = position + 6
            elif length == 126:
                start = position + 8
                length = int.from_bytes(data[position + 2 : position + 4], "big")
                if length < 126:
                    return
            else:
                start = position + 14
                length = int.from_bytes(data[position + 2 : position + 10], "big")
                if length < 65536:
                    return
            end = start + length
            if end > size or length > limit:
                return
            payload = unmask(data[start - 4 : start], data, start, end)
            message: str | bytes
            if first == _BINARY:
                message = bytes(payload)
            else:
                try:
                    message = payload.decode()
                except UnicodeDecodeError:
                    return
            self._position = position = end
            deliver(message)
            if not self._in_lane:
                return

    def _read_whole_frames(self) -> bool:
        """Read frames that are whole and as they should be; False if none is.

        Fragments, compressed messages, pings and pongs. Stops at all else, whole plain
        messages included. Autobahn needs ten times as many instructions for one.
        """
        if self._rest or self._is_discarding:
            return False
        data, position, parser = self._buffer, self._position, self._parser
        size, deflate, left = len(data), self._deflate, self._turns.left
        room = self._small_frame_limit - self._small_frames
        cost = frames = 0
        self._in_lane = True
        while cost < left and size - position >= 6:
            first = data[position]
            length = data[position + 1] - 0x80
            opcode = first & 0x0F
            if length < 0 or first & _OTHER_RSV:
                break
            if opcode == 0:
                if parser is None or first & _RSV1:
                    break
            elif opcode > OPCODE_BINARY:
                if (first != _PING and first != _PONG) or length >= 126:
                    break
            elif (
                parser is not None
                or first in _PLAIN
                or (first & _RSV1 and deflate is None)
            ):
                break
            if length < 126:
                start = position + 6
            elif length == 126:
                start = position + 8
                length = int.from_bytes(data[position + 2 : position + 4], "big")
                # RFC 6455 section 5.2: a length is written in the fewest bytes.
                if length < 126:
                    break
            else:
                start = position + 14
                length = int.from_bytes(data[position + 2 : position + 10], "big")
                if length < 65536:
                    break
            end = start + length
            if end > size:
                break
            if (length <= 1 and not first & _FIN) or opcode & OPCODE_CLOSE:
                if room <= 0:
                    break
                room -= 1
            self._position = position = end
            frames += 1
            cost += FRAME_COST
            if not length and not first:
                # An empty fragment in the middle changes nothing.
                continue
            payload = b""
            if length:
                payload = bytes(unmask(data[start - 4 : start], data, start, end))
            self._take_whole(first, payload)
            parser = self._parser
            if deflate is not None:
                cost += deflate.inflated
                deflate.inflated = 0
            if not self._in_lane:
                break
        self._small_frames = self._small_frame_limit - room
        if not frames:
            return False
        self._charge(cost, frames)
        return True

    def _take_whole(self, first: int, payload: bytes) -> None:
        if first == _PING:
            self._sink.ping_received(payload)
        elif first & _RSV1 and first & _FIN:
            self._inflate(first & 0x0F, payload)
        elif first != _PONG:
            parser = self._parser
            if parser is None:
                parser = self._parser = self._take_parser()
            self._keep(parser, parser.take_fragment(first, payload))

    def _read_frame(self) -> bool:
        """Read what there is of one frame; False if its head is not complete."""
        if not self._rest and not self._begin_frame():
            return False
        end = min(self._position + self._rest, len(self._buffer))
        data = self._buffer[self._position : end]
        self._rest -= len(data)
        self._position = end
        if not self._is_discarding:
            self._parse(data)
        deflate = self._deflate
        if deflate is None:
            self._charge(FRAME_COST)
        else:
            self._charge(FRAME_COST + deflate.inflated)
            deflate.inflated = 0
        # A Close frame that was itself wrong is the peer's last one all the same.
        if self._is_discarding and not self._rest and self._opcode == OPCODE_CLOSE:
            self._sink.close_answered()
        return True

    def _begin_frame(self) -> bool:
        data, position = self._buffer, self._position
        available = len(data) - position
        if available < 2:
            return False
        first, length = data[position], data[position + 1] & 0x7F
        extended = {126: 2, 127: 8}.get(length, 0)
        head = 2 + extended + (4 if data[position + 1] & 0x80 else 0)
        if available < head:
            return False
        if extended:
            length = int.from_bytes(data[position + 2 : position + 2 + extended], "big")
        # What costs far more to read than it carries; an honest peer sends few.
        is_tiny_fragment = length <= 1 and not first & _FIN
        if is_tiny_fragment or first & OPCODE_CLOSE or self._is_discarding:
            self._count_small_frame()
        self._opcode = first & 0x0F
        self._rest = head + length
        return True

    def _count_small_frame(self) -> None:
        self._small_frames += 1
        if self._small_frames <= self._small_frame_limit:
            return
        if not self._is_discarding:
            self._sink.failed(CLOSE_POLICY_VIOLATION, "Too many small frames")
        elif self._small_frames > 2 * self._small_frame_limit:
            # A peer that goes on has no Close frame worth waiting for.
            self._sink.close_answered()

    def _inflate(self, opcode: int, payload: bytes) -> None:
        """Deliver a message that is compressed and in one frame."""
        deflate = self._deflate
        assert deflate is not None
        if len(payload) > compressed_limit(self._limits[1]):
            self._sink.failed(CLOSE_TOO_BIG, "Message too big")
            return
        data = deflate.inflate_message(payload)
        if deflate.fault is not None:
            self._sink.failed(*deflate.fault)
        elif opcode == OPCODE_BINARY:
            self._deliver(data)
        else:
            try:
                text = data.decode()
            except UnicodeDecodeError:
                self._sink.failed(CLOSE_INVALID_DATA, "Invalid UTF-8")
            else:
                self._deliver(text)

    def _take_parser(self) -> Parser:
        return Parser.take(self._sink, self._deliver, self._limits, self._deflate)

    def _parse(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = self._take_parser()
        self._keep(parser, parser.parse(data))

    def _keep(self, parser: Parser, must_keep: bool) -> None:
        # ``discard`` and ``stop`` drop a parser even while it parses.
        if self._parser is parser and not must_keep:
            self._parser = None
            parser.release()
