"""What an HTTP/2 server may send at all, whatever its client has done."""

from __future__ import annotations

import struct
from typing import NamedTuple

from hpack import Decoder
from hpack.exceptions import HPACKError

from tests.fuzz import http2_bytes as kinds

_RESET = "reset"
_ENDED = "ended"


class Frame(NamedTuple):
    """A frame as it stands on the wire."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    def encode(self) -> bytes:
        return kinds.frame(*self)


class FrameCheck:
    """Read a server's frames in their order; keep what is wrong in ``faults``."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.frames: list[Frame] = []
        self.statuses: dict[int, int] = {}
        self._decoder = Decoder()
        self._states: dict[int, str] = {}
        self._block_of = 0
        self._block = b""

    def read(self, data: bytes) -> int:
        """Check all frames in ``data``, but for one that is cut off at the end.

        Returns the size of those that are whole.
        """
        position = 0
        while len(data) - position >= 9:
            size = int.from_bytes(data[position : position + 3], "big")
            kind, flags = data[position + 3 : position + 5]
            (stream_id,) = struct.unpack_from(">L", data, position + 5)
            end = position + 9 + size
            if end > len(data):
                break
            self._take(Frame(kind, flags, stream_id, data[position + 9 : end]))
            position = end
        return position

    def _take(self, frame: Frame) -> None:
        if not self.frames and frame.kind != kinds.SETTINGS:
            self.faults.append("the first frame is not SETTINGS")
        self.frames.append(frame)
        if len(frame.payload) > 32768:
            self.faults.append(f"a frame of {len(frame.payload)} bytes")
        if self._block_of and frame.kind != kinds.CONTINUATION:
            self.faults.append(f"{frame} within a header block")
        if frame.kind in (kinds.SETTINGS, kinds.PING, kinds.GOAWAY):
            if frame.stream_id:
                self.faults.append(f"{frame} on a stream")
        elif frame.stream_id or frame.kind != kinds.WINDOW_UPDATE:
            self._take_on_stream(frame)

    def _take_on_stream(self, frame: Frame) -> None:
        stream_id = frame.stream_id
        state = self._states.get(stream_id)
        is_late = state == _RESET or (
            state == _ENDED
            and frame.kind not in (kinds.RST_STREAM, kinds.WINDOW_UPDATE)
        )
        if is_late:
            self.faults.append(f"{frame} on a stream that is {state}")
        if frame.kind == kinds.RST_STREAM:
            self._states[stream_id] = _RESET
        elif frame.kind == kinds.DATA:
            if stream_id not in self.statuses:
                self.faults.append("content before a head")
            self._end(frame)
        elif frame.kind in (kinds.HEADERS, kinds.CONTINUATION, kinds.PUSH_PROMISE):
            self._take_block(frame)

    def _end(self, frame: Frame) -> None:
        if frame.flags & kinds.END_STREAM:
            self._states[frame.stream_id] = _ENDED

    def _take_block(self, frame: Frame) -> None:
        block = frame.payload
        if frame.kind == kinds.PUSH_PROMISE:
            block = block[4:]
        self._block += block
        self._block_of = frame.stream_id
        if not frame.flags & kinds.END_HEADERS:
            return
        block, self._block, self._block_of = self._block, b"", 0
        try:
            fields = [(n, v) for n, v in self._decoder.decode(block, raw=True)]
        except HPACKError as error:
            self.faults.append(f"a block that no client reads: {error!r}")
            return
        if frame.kind == kinds.HEADERS:
            self._note_head(frame, fields)

    def _note_head(self, frame: Frame, fields: list[tuple[bytes, bytes]]) -> None:
        if frame.stream_id in self.statuses:
            if not frame.flags & kinds.END_STREAM:
                self.faults.append("a second head")
        elif fields[0][0] != b":status":
            self.faults.append(f"a head without a status: {fields}")
        elif fields[0][1][:1] != b"1":
            self.statuses[frame.stream_id] = int(fields[0][1])
        self._end(frame)
