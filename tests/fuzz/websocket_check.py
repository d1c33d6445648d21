"""WebSocket as the websockets library sees it: an independent reader of both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from websockets.extensions import Extension

_CONTROLS = {Opcode.CLOSE, Opcode.PING, Opcode.PONG}


def check_frames(data: bytes, *, is_deflated: bool) -> list[str]:
    """Return what is wrong with the frames that a server has sent.

    The last one may be a part of a frame, where the connection was broken off.
    """
    faults: list[str] = []
    frames, error = read_frames(data, mask=False, is_deflated=is_deflated)
    if error is not None:
        faults.append(f"a frame that no client reads: {error}")
    is_closed = False
    for frame in frames:
        if is_closed:
            faults.append(f"{frame} after Close")
        is_closed |= frame.opcode is Opcode.CLOSE
        if frame.opcode is Opcode.TEXT:
            bytes(frame.data).decode()
        if not frame.fin or frame.opcode is Opcode.CONT:
            faults.append("a fragment")
    return faults


def find_forged(
    data: bytes, messages: Sequence[str | bytes], *, is_deflated: bool
) -> list[str]:
    """Return where ``messages`` are not the ones in the frames that a client sent."""
    frames, _ = read_frames(data, mask=True, is_deflated=is_deflated)
    theirs = join_messages(frames)
    for ours, other in zip(messages, theirs, strict=False):
        encoded = ours.encode() if isinstance(ours, str) else ours
        if (isinstance(ours, str), encoded) != other:
            return [f"message {ours[:60]!r}, to websockets {other[1][:60]!r}"]
    if len(messages) > len(theirs):
        return [f"{len(messages)} messages, to websockets {len(theirs)}"]
    return []


def join_messages(frames: Sequence[Frame]) -> list[tuple[bool, bytes]]:
    """Return the messages up to the first Close or misplaced fragment."""
    messages: list[tuple[bool, bytes]] = []
    is_text: bool | None = None
    parts: list[bytes] = []
    for frame in frames:
        if frame.opcode is Opcode.CLOSE:
            break
        if frame.opcode in _CONTROLS:
            continue
        if (frame.opcode is Opcode.CONT) is (is_text is None):
            break
        if frame.opcode is not Opcode.CONT:
            is_text = frame.opcode is Opcode.TEXT
        parts.append(bytes(frame.data))
        if frame.fin:
            assert is_text is not None
            messages.append((is_text, b"".join(parts)))
            is_text, parts = None, []
    return messages


def read_frames(
    data: bytes, *, mask: bool, is_deflated: bool
) -> tuple[list[Frame], Exception | None]:
    """Return the frames in ``data``, and why it is that reading stopped early."""
    reader = StreamReader()
    reader.feed_data(data)
    extensions: list[Extension] = []
    if is_deflated:
        extensions.append(PerMessageDeflate(True, True, 15, 15))
    frames: list[Frame] = []
    while True:
        parser = Frame.parse(
            reader.read_exact, mask=mask, max_size=1 << 22, extensions=extensions
        )
        try:
            next(parser)
        except StopIteration as stop:
            frames.append(stop.value)
        except (ProtocolError, PayloadTooBig) as error:
            return frames, error
        else:
            return frames, None
