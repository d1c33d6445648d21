"""What is sent, and when: frames by priority, within the windows and the transport.

Everything of one turn of the loop goes out in one write. DATA is made only when it can
be sent: up to the windows, while the transport takes more, and so much in one turn. A
client that reads as fast as we write would otherwise never let the loop go on to what
other streams and connections ask for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.protocols.http2.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.interfaces import Transport
    from djserve.protocols.http2.codec import FrameCodec
    from djserve.protocols.http2.responder import Responder

# Bytes of content in one turn of the loop; the transport's buffer is about as large.
_TURN_SIZE = 64 * 1024

# What every peer takes in a frame; a turn is at least as much.
_FRAME_SIZE = 16 * 1024

# A frame with less content than this is no progress that pays for a window update.
_WORTHY_SIZE = 1024
# One for the stream's window and one for the connection's.
_CONTROLS_PER_FRAME = 2.0

# What may wait in the transport before we take no more from the peer. Content stops
# long before; this is for answers that have none (CVE-2019-9512's kind).
_BACKLOG_LIMIT = 256 * 1024


class Output:
    """Write one connection's frames to its transport.

    ``call_soon`` runs a callable in the loop's next turn. Between ``hold`` and
    ``release`` nothing is written.
    """

    __slots__ = (
        "_call_soon",
        "_codec",
        "_is_busy",
        "_is_reading_paused",
        "_is_scheduled",
        "_scheduler",
        "_transport",
        "_turn_left",
        "is_paused",
        "is_stopped",
        "pauses",
    )

    def __init__(
        self,
        codec: FrameCodec,
        transport: Transport,
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._codec = codec
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
        """Write what was held back."""
        self._is_busy = False
        self.flush()

    def wake(self) -> None:
        """Write what there is in the loop's next turn."""
        if not self._is_busy:
            self._schedule()

    def can_send_now(self, stream: Responder, size: int) -> bool:
        """Say whether content may go out ahead of what is queued: nothing is."""
        codec = self._codec
        return (
            not self.is_paused
            and size <= codec.max_outbound_frame_size
            and size <= codec.outbound_flow_control_window
            and size <= stream.state.outbound_flow_control_window
            and not self._scheduler
        )

    def add(self, stream: Responder) -> None:
        """Queue a stream that has content to send, if its window allows any."""
        if stream.state.outbound_flow_control_window > 0:
            self._scheduler.add(stream)
        self.wake()

    def discard(self, stream: Responder) -> None:
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

    def stop(self) -> None:
        """The transport is gone: write nothing any more, not even what is scheduled."""
        self.is_stopped = True

    def flush(self) -> None:
        """Write now: control frames in any case, content as far as it may go.

        What is left of it when this turn has had its share waits for the next.
        """
        if self._is_busy or self.is_stopped:
            return
        self._is_busy = True
        codec = self._codec
        try:
            while True:
                if self._turn_left > 0 and not self.is_paused:
                    self._fill()
                if not codec.has_output():
                    break
                self._transport.write(codec.take_output())
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
        self._turn_left = _TURN_SIZE
        self.flush()

    def _check_backlog(self) -> None:
        if self.waiting_size > _BACKLOG_LIMIT:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def _fill(self) -> None:
        """Make frames for one write, up to what this turn has left."""
        scheduler, codec = self._scheduler, self._codec
        while (
            scheduler and self._turn_left > 0 and codec.outbound_flow_control_window > 0
        ):
            stream = scheduler.next()
            window = min(
                codec.outbound_flow_control_window,
                stream.state.outbound_flow_control_window,
                # Nobody waits for the end of a frame: several go at once.
                max(self._turn_left, _FRAME_SIZE)
                if scheduler.has_one
                else codec.max_outbound_frame_size,
            )
            if window > 0:
                self._turn_left -= self._send_content(stream, window)
            else:
                scheduler.discard(stream)
        if self._turn_left <= 0:
            self._schedule()

    def _send_content(self, stream: Responder, window: int) -> int:
        data = stream.queue.take(window)
        size = len(data)
        if size >= _WORTHY_SIZE:
            full, rest = divmod(size, self._codec.max_outbound_frame_size)
            count = full + (rest >= _WORTHY_SIZE)
            self._codec.controls.earn(_CONTROLS_PER_FRAME * count)
        stream.sent_size += size
        is_whole = not stream.queue.size
        if is_whole:
            self._scheduler.discard(stream)
        else:
            self._scheduler.sent(stream)
        stream.send_content(data, is_whole)
        return size
