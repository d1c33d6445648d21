"""The event loop that a process runs, and Twisted's reactor on it once one is wanted.

Twisted with its interfaces is two fifths of what a server would import, and plain HTTP,
TLS and WebSocket need nothing of it. So the loop runs without a reactor until the
application, one of its packages or an endpoint string imports ``twisted.internet``:
then djserve's reactor is installed at that moment, before any other can be, and if the
loop runs already, the reactor is started on it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from djserve.errors import ConfigError
from djserve.instrumentation.logging import redirect_twisted
from djserve.postponed import after_import

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterator

    Outlives: TypeAlias = Callable[[BaseException], bool]

logger = logging.getLogger("djserve.server")

_REACTOR = "djserve.net.twisted.reactor"


class Runner(Protocol):
    """What runs an event loop: a ``MainLoop``, or djserve's Twisted reactor."""

    @property
    def loop(self) -> AbstractEventLoop: ...

    def call_when_running(self, function: Callable[[], object]) -> None:
        """Call a function when ``run_loop`` begins."""

    def run_loop(self, outlives: Outlives | None = None) -> None:
        """Run until ``stop``.

        asyncio lets SystemExit and KeyboardInterrupt out of any task or callback end
        the loop. ``outlives`` returns whether it runs on after such a one.
        """

    def stop(self) -> None:
        """End ``run_loop``."""

    def as_reactor(self) -> Any:
        """Return the reactor of this loop, as Twisted's endpoints take it."""


def new_event_loop(*, prefer_uvloop: bool = True) -> AbstractEventLoop:
    """Return a new loop: uvloop's if it is installed and wanted, else asyncio's.

    On Windows winloop takes uvloop's place, and asyncio's is not the default one there,
    which has no readers.
    """
    if prefer_uvloop:
        name = "winloop" if sys.platform == "win32" else "uvloop"
        try:
            fast: Any = import_module(name)
        except ImportError:
            pass
        else:
            loop: AbstractEventLoop = fast.new_event_loop()
            return loop
    return asyncio.SelectorEventLoop()


def run_on(
    loop: AbstractEventLoop, error: BaseException | None, outlives: Outlives | None
) -> None:
    """Run a loop again after an error that ended it, if the server outlives that."""
    while error is not None:
        if outlives is None or not outlives(error):
            raise error
        error = None
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as another:
            error = another


class MainLoop:
    """A loop that runs with or without Twisted's reactor."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self._process = os.getpid()
        self._reactor: Any = None
        self._first: list[Callable[[], object]] = []
        self._is_running = False
        # A thread may import Twisted at any moment.
        self._lock = threading.Lock()

    def call_when_running(self, function: Callable[[], object]) -> None:
        self._first.append(function)

    def run_loop(self, outlives: Outlives | None = None) -> None:
        with self._lock:
            reactor = self._reactor
            self._is_running = reactor is None
        first, self._first = self._first, []
        if reactor is not None:
            for function in first:
                reactor.call_when_running(function)
            reactor.run_loop(outlives)
            return
        try:
            for function in first:
                function()
            self.loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            run_on(self.loop, error, outlives)
        finally:
            with self._lock:
                self._is_running = False
            if self._reactor is not None:
                self._reactor.end_run()

    def stop(self) -> None:
        if self._reactor is not None and self._reactor.running:
            self._reactor.stop()
        else:
            self.loop.stop()

    def as_reactor(self) -> Any:
        # First the package, as an application imports it: see ``install_when_used``.
        import_module("twisted.internet")
        reactor = import_module(_REACTOR)
        if self._reactor is None:
            self._reactor = reactor.Reactor(self.loop)
        return self._reactor

    def install_when_used(self) -> None:
        """Install the reactor as Twisted's global one as soon as Twisted is imported.

        Whatever installs a reactor imports ``twisted.internet`` first. If that is done
        by djserve's own module, its import has to come to an end before.
        """
        after_import("twisted.internet", lambda: import_module(_REACTOR))
        after_import(_REACTOR, self._install)

    def _install(self) -> None:
        if os.getpid() != self._process:
            # A fork of the application's: the loop is its parent's. Twisted installs a
            # reactor of its own there, which can run.
            return
        with self._lock:
            self._reactor = import_module(_REACTOR).install(self.loop)
            is_running = self._is_running
        if not is_running:
            return
        if is_running_here(self.loop):
            self._start_reactor()
        else:
            self.loop.call_soon_threadsafe(self._start_reactor)

    def _start_reactor(self) -> None:
        self._reactor.startRunning(installSignalHandlers=False)

    def detach(self) -> None:
        """Close the reactor's descriptors; the loop is another's and goes on."""
        if self._reactor is not None:
            self._reactor.detach()


def is_running_here(loop: AbstractEventLoop) -> bool:
    """Return whether a loop runs in this thread."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


_main: MainLoop | None = None


def take_main_loop(loop: AbstractEventLoop | None = None) -> Runner:
    """Return what runs this process's loop; the same one each time.

    The first time, ``loop`` is that loop. If Twisted has been imported, it is djserve's
    reactor, installed. Raises ConfigError if another reactor is.
    """
    global _main
    if "twisted.internet" in sys.modules:
        reactor: Runner = import_module(_REACTOR).install(loop)
        return reactor
    if _main is None:
        _main = MainLoop(loop or new_event_loop())
        _main.install_when_used()
    return _main


def take_main_loop_or_other() -> Runner:
    """Return the same, or a loop beside the reactor that the application installed."""
    try:
        return take_main_loop()
    except ConfigError as error:
        # The project's own Twisted code keeps that one, which nobody runs.
        logger.warning("%s", error)
        return MainLoop(new_event_loop())


@contextmanager
def main_loop_on(loop: AbstractEventLoop) -> Iterator[Runner]:
    """Give the runner of a loop that another runs: the installed reactor if it is its.

    That Twisted is imported installs nothing here.
    """
    installed = sys.modules.get("twisted.internet.reactor")
    if getattr(installed, "loop", None) is loop:
        reactor: Any = installed
        yield reactor
        return
    own = MainLoop(loop)
    try:
        yield own
    finally:
        own.detach()


def redirect_twisted_log() -> None:
    """Route Twisted's log to "djserve.twisted" once it is imported."""
    after_import("twisted.logger", _redirect_twisted_log)


def _redirect_twisted_log() -> None:
    redirect_twisted(sys.modules["twisted.logger"])
