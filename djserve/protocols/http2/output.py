"""What is sent, and when: frames by priority, within the windows and the transport.

Everything of one turn of the loop goes out in one write. Frames other than DATA go in
the order in which they are made. DATA is made only when it can be sent, so that what
waits is content of the streams, each in its own queue, and never frames:

- The stream's window and the connection's (RFC 9113 section 5.2) must be open. A stream
  whose window is shut leaves the scheduler, and comes back by ``add`` when the peer
  opens it. When the connection's is shut all stay queued, and the next update wakes.
- The transport must take more: nothing is made between ``pause`` and ``resume``.
- One turn of the loop makes ``_TURN_SIZE`` bytes. A client that reads as fast as we
  write would otherwise keep the loop from all other streams and connections. Its turns
  are twice as long (``_LONG_TURN_SIZE``), so that it may ask for more at a time. A
  client that has not taken all gets short ones, so that no more waits for it.

A turn that is due takes along what was made for it: the heads of responses whose
content waits go out with it, in the same pass of the loop, and not in a write and a TLS
record before it.

Three bounds hold what a peer can make us keep. A stream's queue takes
``STREAM_BUFFER_SIZE`` (``stream``), then the application's ``send`` waits. Answers
without content obey no window: once ``_BACKLOG_LIMIT`` bytes wait in the transport
nothing more is read from the peer (CVE-2019-9512's kind). And a window that is never
opened, or a transport that never empties, is ended by WRITE_TIMEOUT (``timeouts``).

The other way, the peer's windows are opened by ``acknowledge`` (``codec``) as the
application reads, and not as bytes arrive: what an application leaves unread is held in
the windows, and needs no other bound. Content that is dropped (of a stream that has
ended, beyond a limit) is given back to the connection's window at once, so that one
stream cannot shut it for all. A stream whose application keeps up is widened.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.interfaces import Transport
    from djserve.protocols.http2.codec import FrameWriter
    from djserve.protocols.http2.request import Priority

# Bytes of content in one turn of the loop; the transport's buffer is about as large.
_TURN_SIZE = 64 * 1024

# The same for a peer that has taken all of the turn before.
_LONG_TURN_SIZE = 128 * 1024

# What every peer takes in a frame; a turn is at least as much.
_FRAME_SIZE = 16 * 1024

# A frame with less content than this is no progress that pays for a window update.
_WORTHY_SIZE = 1024
# One for the stream's window and one for the connection's.
_CONTROLS_PER_FRAME = 2.0

# What may wait in the transport before we take no more from the peer. Content stops
# long before; this is for answers that have none (CVE-2019-9512's kind).
_BACKLOG_LIMIT = 256 * 1024

# Bytes that a response may have sent and still be a short one.
LONG_TURN = 128 * 1024

# Of so many turns, one goes to a lower level.
COURTESY_INTERVAL = 8

# Each urgency has two levels: the short ones, then the long ones.
_LEVELS = 16


class ContentQueue:
    """Content that waits: chunks in order, taken in pieces. ``size`` is all of it."""

    __slots__ = ("_chunks", "_offset", "size")

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._offset = 0
        self.size = 0

    def append(self, data: bytes) -> None:
        """Add a non-empty chunk."""
        self._chunks.append(data)
        self.size += len(data)

    def clear(self) -> None:
        """Drop all."""
        self._chunks.clear()
        self._offset = self.size = 0

    def take(self, limit: int) -> bytes | memoryview:
        """Return the next content, at most ``limit`` bytes; there must be some.

        A part of a chunk is a view of it, so that it is copied only when it is sent.
        """
        data: bytes | memoryview
        first = self._chunks[0]
        room = len(first) - self._offset
        if room > limit:
            data = memoryview(first)[self._offset : self._offset + limit]
            self._offset += limit
        elif room == limit or len(self._chunks) == 1:
            self._chunks.popleft()
            data = memoryview(first)[self._offset :] if self._offset else first
            self._offset = 0
        else:
            data = self._take_several(limit)
        self.size -= len(data)
        return data

    def _take_several(self, limit: int) -> bytes:
        """Join chunks up to ``limit``: small ones share a frame."""
        parts: list[bytes] = []
        while limit and self._chunks:
            chunk = self._chunks[0]
            part = chunk[self._offset : self._offset + limit]
            parts.append(part)
            limit -= len(part)
            self._offset += len(part)
            if self._offset == len(chunk):
                self._chunks.popleft()
                self._offset = 0
        return b"".join(parts)


class Sender(Protocol):
    """A stream, as what queues and orders its content knows it.

    ``level`` is the scheduler's: in which of its queues the stream is, if any.
    """

    outbound_flow_control_window: int
    priority: Priority
    queue: ContentQueue
    level: int | None
    sent_size: int

    def send_content(self, data: bytes | memoryview, is_whole: bool, /) -> None:
        """Send content that was taken; ``is_whole``: nothing waits any more."""


class Scheduler:
    """Keep the streams that have something to send and may send it: who is next.

    RFC 9218 section 10 leaves the algorithm to the server. Taken literally, one long
    download would keep every later response of its urgency waiting, and all of lower
    urgency; here none waits for ever:

    - A non-incremental stream goes first in its urgency until it is complete or has
      had its long turn. From then on it lets all shorter ones by, and shares with
      others like it: each has a turn of the loop, or what is left of one. Small
      responses fit in one turn: they are sent whole, in order, and at once, however
      many downloads run at the same time.
    - An incremental stream's turn is one frame.
    - Every few turns the next lower level (a later urgency, or the long ones of the
      same) with anything to send gets one.
    """

    __slots__ = ("_queues", "_turns", "levels")

    def __init__(self) -> None:
        self._queues: list[deque[Sender]] = [deque() for _ in range(_LEVELS)]
        # A bit for each level that has a stream (benchmark: http2_mixed_download).
        self.levels = 0
        """0 if no stream is queued."""
        self._turns = 0

    @property
    def has_one(self) -> bool:
        """Whether a single stream is queued."""
        levels = self.levels
        return not levels & (levels - 1) and (
            len(self._queues[levels.bit_length() - 1]) == 1
        )

    def share_of(self, stream: Sender, left: int, frame_size: int) -> int:
        """Return how much a stream may send of the ``left`` bytes of a turn.

        Several frames if no other stream waits for the end of one: if it is alone, or
        among others that are not incremental either (benchmark: static_files).
        """
        run = left + -left % _FRAME_SIZE
        if self.has_one:
            return run
        if self.levels & (self.levels - 1) or stream.priority.incremental:
            return frame_size
        if stream.sent_size >= LONG_TURN:
            return run
        return min(run, LONG_TURN - stream.sent_size)

    def add(self, stream: Sender) -> None:
        """Put a stream last of its level; nothing happens if it is queued."""
        if stream.level is None:
            stream.level = _level_of(stream)
            self._queues[stream.level].append(stream)
            self.levels |= 1 << stream.level

    def discard(self, stream: Sender) -> None:
        """Take a stream out, wherever it stands."""
        if stream.level is not None:
            queue = self._queues[stream.level]
            queue.remove(stream)
            if not queue:
                self.levels ^= 1 << stream.level
            stream.level = None

    def next(self) -> Sender:
        """Return the stream whose turn it is; it stays queued. There must be one."""
        self._turns += 1
        highest = self.levels & -self.levels
        lower_levels = self.levels ^ highest
        if lower_levels and self._turns % COURTESY_INTERVAL == 0:
            # The courtesy goes round among the lower levels.
            waiting = [queue for queue in self._queues if queue]
            lower = self._turns // COURTESY_INTERVAL % (len(waiting) - 1)
            return waiting[1 + lower][0]
        return self._queues[highest.bit_length() - 1][0]

    def sent(self, stream: Sender) -> None:
        """Let a queued stream that sent a frame, and has more, give way to others."""
        if stream.priority.incremental or stream.sent_size >= LONG_TURN:
            level = _level_of(stream)
            if level != stream.level or len(self._queues[level]) > 1:
                self.discard(stream)
                self.add(stream)


class Output:
    """Write one connection's frames to its transport.

    ``call_soon`` runs a callable in the loop's next turn. Between ``hold`` and
    ``release`` nothing is written.
    """

    __slots__ = (
        "_call_soon",
        "_h2",
        "_is_busy",
        "_is_reading_paused",
        "_is_scheduled",
        "_scheduler",
        "_transport",
        "_turn_left",
        "_writer",
        "is_paused",
        "is_stopped",
        "pauses",
    )

    def __init__(
        self,
        writer: FrameWriter,
        transport: Transport,
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._h2 = writer.h2
        self._writer = writer
        self._transport = transport
        self._call_soon = call_soon
        self._scheduler = Scheduler()
        self._is_busy = False
        self._is_scheduled = False
        self._is_reading_paused = False
        self._turn_left = _TURN_SIZE
        self.is_paused = False
        self.is_stopped = False
        self.pauses = 0

    @property
    def waiting_size(self) -> int:
        """The bytes that the transport has not yet sent."""
        return self._transport.get_write_buffer_size()

    def hold(self) -> None:
        """Write nothing until ``release``: more is about to come."""
        self._is_busy = True

    def release(self) -> None:
        """Write what was held back, now or with the content of a turn that is due."""
        self._is_busy = False
        if not (self._is_scheduled and self._turn_left <= 0) or self.is_paused:
            self.flush()

    def wake(self) -> None:
        """Write what there is in the loop's next turn."""
        if not self._is_busy:
            self._schedule()

    def can_send_now(self, stream: Sender, size: int) -> bool:
        """Return whether content may go out ahead of what is queued: nothing is."""
        h2 = self._h2
        return (
            not self.is_paused
            and size <= h2.max_outbound_frame_size
            and size <= h2.outbound_flow_control_window
            and size <= stream.outbound_flow_control_window
            and not self._scheduler.levels
        )

    def add(self, stream: Sender) -> None:
        """Queue a stream that has content to send, if its window allows any."""
        if stream.outbound_flow_control_window > 0:
            self._scheduler.add(stream)
        self.wake()

    def discard(self, stream: Sender) -> None:
        """Forget a stream that ends."""
        self._scheduler.discard(stream)

    def pause(self) -> None:
        """The transport is full."""
        self.is_paused = True
        self.pauses += 1

    def resume(self) -> None:
        """The transport takes more."""
        self.is_paused = False
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._transport.resume_reading()
        self.flush()

    @property
    def is_reading_paused(self) -> bool:
        """Whether so much waits for the peer that nothing more is read from it."""
        return self._is_reading_paused

    def stop(self) -> None:
        """The transport is gone: write nothing any more, not even what is scheduled."""
        self.is_stopped = True

    def flush(self) -> None:
        """Write now: control frames in any case, content as far as it may go.

        What is left of it when this turn has had its share waits for the next.
        """
        if self._is_busy or self.is_stopped:
            return
        writer, scheduler = self._writer, self._scheduler
        self._is_busy = True
        try:
            while True:
                if scheduler.levels and self._turn_left > 0 and not self.is_paused:
                    self._fill()
                data = writer.take_output()
                if not data:
                    break
                self._transport.write(data)
        finally:
            self._is_busy = False
        if self.is_paused and not self._is_reading_paused:
            self._check_backlog()

    def _schedule(self) -> None:
        if not (self._is_scheduled or self.is_stopped):
            self._is_scheduled = True
            self._call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        was_spent = self._turn_left <= 0
        self._turn_left = _TURN_SIZE
        if was_spent and not self._transport.get_write_buffer_size():
            self._turn_left = _LONG_TURN_SIZE
        self.flush()

    def _check_backlog(self) -> None:
        if self.waiting_size > _BACKLOG_LIMIT:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def _fill(self) -> None:
        """Make frames for one write, up to what this turn has left."""
        scheduler, h2 = self._scheduler, self._h2
        while (
            scheduler.levels
            and self._turn_left > 0
            and h2.outbound_flow_control_window > 0
        ):
            stream = scheduler.next()
            window = min(
                h2.outbound_flow_control_window,
                stream.outbound_flow_control_window,
                scheduler.share_of(stream, self._turn_left, h2.max_outbound_frame_size),
            )
            if window > 0:
                self._turn_left -= self._send_content(stream, window)
            else:
                scheduler.discard(stream)
        if self._turn_left <= 0:
            self._schedule()

    def _send_content(self, stream: Sender, window: int) -> int:
        data = stream.queue.take(window)
        size = len(data)
        if size >= _WORTHY_SIZE:
            full, rest = divmod(size, self._h2.max_outbound_frame_size)
            count = full + (rest >= _WORTHY_SIZE)
            self._h2.controls.earn(_CONTROLS_PER_FRAME * count)
        stream.sent_size += size
        is_whole = not stream.queue.size
        if is_whole:
            self._scheduler.discard(stream)
        else:
            self._scheduler.sent(stream)
        stream.send_content(data, is_whole)
        return size


def _level_of(stream: Sender) -> int:
    return stream.priority.urgency * 2 + (stream.sent_size >= LONG_TURN)
