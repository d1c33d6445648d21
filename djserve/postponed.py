"""Modules of other packages that are imported when they are first used, not before.

Twisted's reactor imports pyOpenSSL, which with cryptography is a quarter of its import,
for TLS that most servers leave to the event loop; and http.cookiejar, which brings
urllib and the email package, for a name that only Twisted's web client uses. Autobahn
imports pyOpenSSL to look at errors, click for the colours of what it logs, hyperlink
for a client. None of them has a switch for that.

A stand-in takes such a module's place while the other is imported, and only then: an
import that follows gets the module itself. The other keeps the stand-in, and gets from
it all that the module has. Under Django's reloader all is imported as usual: its thread
looks every name of sys.modules up, and must not meet one that has gone.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The variable by which a process knows that Django's reloader has started it.
_RELOADED = "RUN_MAIN"


class StandIn(ModuleType):
    """Has what a module has, which is imported when the first of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        # The import system asks for some of these: a stand-in is no package.
        if name.startswith("__"):
            raise AttributeError(f"{self.__name__} has not been imported yet")
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextmanager
def postponed(*names: str) -> Iterator[None]:
    """Put a stand-in for each module that is not imported yet; they go with the block.

    A package comes before its modules. A name "module:attribute" is for what others
    import from the module, to call it.
    """
    if os.environ.get(_RELOADED) == "true":
        yield
        return
    added: dict[str, StandIn] = {}
    for name in names:
        module, _, attribute = name.partition(":")
        if module in sys.modules:
            continue
        added[module] = stand_in = StandIn(module)
        if attribute:
            setattr(stand_in, attribute, postponed_call(module, attribute))
        package, _, last = module.rpartition(".")
        if package in added:
            setattr(added[package], last, stand_in)
    sys.modules.update(added)
    try:
        yield
    finally:
        for module, stand_in in added.items():
            if sys.modules.get(module) is stand_in:
                del sys.modules[module]


def postponed_call(module: str, name: str) -> Callable[..., Any]:
    """Return a function that calls what a module has under a name."""

    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(import_module(module), name)(*arguments, **options)

    return call
