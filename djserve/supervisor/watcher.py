"""What the supervisor waits for: descriptors, and what to do once one can be read."""

from __future__ import annotations

import selectors
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Source(Protocol):
    """What has a descriptor; compared by identity."""

    def fileno(self) -> int: ...


class Watcher:
    """Call a function when something can be read."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._actions: dict[object, Callable[[], None]] = {}

    def watch(self, source: Source, act: Callable[[], None]) -> None:
        """Call ``act`` whenever ``source`` can be read."""
        self._actions[source] = act
        self._selector.register(source, selectors.EVENT_READ)

    def forget(self, source: Source) -> None:
        """Watch ``source`` no more, if it is watched; called before it is closed."""
        if self._actions.pop(source, None) is not None:
            self._selector.unregister(source)

    def run(self, timeout: float) -> None:
        """Wait for at most ``timeout`` seconds and make the calls that are due."""
        for key, _ in self._selector.select(timeout):
            # A call before may have forgotten this one.
            act = self._actions.get(key.fileobj)
            if act is not None:
                act()
