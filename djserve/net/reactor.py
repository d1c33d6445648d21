"""The Twisted reactor: installed by a call, never by an import."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from twisted.internet import asyncioreactor

from djserve.errors import ConfigError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


class Reactor(asyncioreactor.AsyncioSelectorReactor):
    """A Twisted reactor on an event loop."""

    def __init__(self, loop: AbstractEventLoop | None = None) -> None:
        self.loop = new_event_loop() if loop is None else loop
        super().__init__(self.loop)


def new_event_loop(*, prefer_uvloop: bool = True) -> AbstractEventLoop:
    """Return a new loop: uvloop's where it is installed and wanted, else asyncio's."""
    if prefer_uvloop:
        try:
            import uvloop
        except ImportError:
            pass
        else:
            return uvloop.new_event_loop()
    return asyncio.SelectorEventLoop()


def install(loop: AbstractEventLoop | None = None) -> Reactor:
    """Install a new reactor as Twisted's global one and return it.

    Where djserve's reactor is installed already, that one is returned. Raises
    ConfigError where another reactor is.
    """
    installed: object = sys.modules.get("twisted.internet.reactor")
    if isinstance(installed, Reactor) and loop in (None, installed.loop):
        return installed
    if installed is not None:
        raise ConfigError([_already_installed(installed)])
    from twisted.internet.main import installReactor

    reactor = Reactor(loop)
    installReactor(reactor)
    return reactor


def _already_installed(reactor: object) -> str:
    kind = type(reactor)
    return (
        f"Another Twisted reactor is installed, {kind.__module__}.{kind.__qualname__}; "
        "install djserve's before anything imports twisted.internet.reactor"
    )
