"""The producer of a Twisted transport: paused while the transport is full.

Twisted has two kinds. A push producer (``streaming``) goes on until it is paused; a
pull producer writes once each time it is asked to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


class ProducerAdapter:
    """Hold a transport's producer, or none, and tell it when to go on."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.producer: Any = None
        self.streaming = False
        self._loop = loop
        self._push: Any = None
        self._is_full = False

    def register(self, producer: Any, streaming: bool) -> None:
        """Take a producer. Raises RuntimeError if there is one already."""
        if self.producer is not None:
            raise RuntimeError(
                f"Cannot register {producer!r}, {self.producer!r} is registered"
            )
        self.producer = producer
        self.streaming = streaming
        self._push = producer if streaming else _PulledProducer(self._loop, producer)
        if self._is_full:
            self._push.pauseProducing()
        elif not streaming:
            self._push.pull()

    def unregister(self) -> None:
        push, self._push = self._push, None
        self.producer = None
        if isinstance(push, _PulledProducer):
            push.is_stopped = True

    @property
    def is_awaited(self) -> bool:
        """Whether a transport that is to be closed waits for more of the producer's.

        As in Twisted: for one that is asked, or is to go on once there is room. A push
        producer with room has said all that it wanted to.
        """
        return self.producer is not None and (self._is_full or not self.streaming)

    def pause(self) -> None:
        """The transport is full."""
        self._is_full = True
        if self._push is not None:
            self._push.pauseProducing()

    def resume(self) -> None:
        """The transport takes more."""
        self._is_full = False
        if self._push is not None:
            self._push.resumeProducing()

    def stop(self) -> None:
        """The connection is lost: there is no use in producing more."""
        producer = self.producer
        self.unregister()
        if producer is not None:
            producer.stopProducing()


class _PulledProducer:
    """Ask a pull producer for more, once in each turn of the loop, until paused."""

    def __init__(self, loop: AbstractEventLoop, producer: Any) -> None:
        self.is_stopped = False
        self._loop = loop
        self._producer = producer
        self._is_paused = False
        self._is_due = False

    def pauseProducing(self) -> None:
        self._is_paused = True

    def resumeProducing(self) -> None:
        self._is_paused = False
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._pull_when_due)

    def pull(self) -> None:
        if not self._is_paused and not self.is_stopped:
            self.resumeProducing()
            self._producer.resumeProducing()

    def _pull_when_due(self) -> None:
        self._is_due = False
        self.pull()
