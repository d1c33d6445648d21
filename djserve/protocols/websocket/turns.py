"""What the WebSockets of one event loop may cost it in a turn, and who is next.

Frames other than whole, uncompressed messages cost more to read than to send, and a
compressed one may be a thousand times longer than what was sent. A connection that has
used a turn up is read on in a later one; all other connections are served in between.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

TURN_COST = 256 * 1024
"""Bytes of content in one turn: about a millisecond for the application's share too."""

FRAME_COST = 512
"""What a frame costs in addition to its content: about 2 us."""

RUN_COST = 8 * 1024
"""What it costs to hand on the messages that waited for a full queue."""

# A tenth of a second's frames may come at once.
_BURST_TIME = 0.1
_RETRY_DELAY = 0.01
_UNBOUNDED = 1 << 62


class Loop(Protocol):
    """What is needed of an event loop."""

    def call_soon(self, callback: Callable[[], object], /) -> Any: ...
    def call_later(self, delay: float, callback: Callable[[], object], /) -> Any: ...
    def time(self) -> float: ...


class Turns:
    """One loop's account; without a loop nothing is bounded.

    ``left`` is what the turn under way may still cost: who finds it at 0 or below calls
    ``wait``; ``waits`` counts these. ``frame_rate_limit`` bounds the frames of
    all connections in a second.
    """

    __slots__ = (
        "_burst",
        "_frames_left",
        "_heavy",
        "_is_scheduled",
        "_light",
        "_loop",
        "_rate",
        "_renewed_at",
        "left",
        "waits",
    )

    def __init__(
        self, loop: Loop | None = None, frame_rate_limit: int = _UNBOUNDED
    ) -> None:
        self._loop = loop
        self._rate = frame_rate_limit
        self._burst = max(1.0, frame_rate_limit * _BURST_TIME)
        self._frames_left = self._burst
        self._renewed_at = 0.0 if loop is None else loop.time()
        self._is_scheduled = loop is None
        self.left = _UNBOUNDED if loop is None else TURN_COST
        self.waits = 0
        self._light: deque[Callable[[], object]] = deque()
        self._heavy: deque[Callable[[], object]] = deque()

    def spend(self, cost: int, frames: int = 1) -> None:
        """Charge the turn under way."""
        self.left -= cost
        self._frames_left -= frames
        if not self._is_scheduled:
            self._schedule()

    def wait(self, proceed: Callable[[], object], *, is_heavy: bool) -> None:
        """Have ``proceed`` called in a turn that has something left.

        Those that are not heavy come first: they sent little, and wait only because
        others sent much.
        """
        self.waits += 1
        (self._heavy if is_heavy else self._light).append(proceed)
        if not self._is_scheduled:
            self._schedule()

    def _schedule(self) -> None:
        assert self._loop is not None
        self._is_scheduled = True
        if self._frames_left > 0:
            self._loop.call_soon(self._begin)
        else:
            self._loop.call_later(_RETRY_DELAY, self._begin)

    def _begin(self) -> None:
        """Begin a turn, with those that waited for it."""
        assert self._loop is not None
        now = self._loop.time()
        earned = (now - self._renewed_at) * self._rate
        self._renewed_at = now
        self._frames_left = min(self._burst, self._frames_left + earned)
        self._is_scheduled = False
        self.left = 0
        if self._frames_left > 0:
            # No more frames than are left, give or take the last one's content.
            self.left = min(TURN_COST, int(self._frames_left * FRAME_COST) + 1)
        for waiting in (self._light, self._heavy):
            # Not those that come to wait again in this turn.
            for _ in range(len(waiting)):
                if self.left <= 0:
                    break
                waiting.popleft()()
        if (self._light or self._heavy) and not self._is_scheduled:
            self._schedule()
