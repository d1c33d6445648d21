"""Modules of other packages that are imported when they are first used, not before.

``postponed`` has others import them later; ``after_import`` has something done when an
application imports one that djserve itself may do without. ``pattern`` does the same
for regular expressions.

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
import re
import sys
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, AnyStr, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec

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


def pattern(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Return a regular expression that is compiled when it is first used.

    For those that few servers use, or that none uses with each request: compiling takes
    a tenth of a millisecond, and many of them were a twentieth of the start.
    """
    found: Any = _Pattern(text, flags)
    return cast("re.Pattern[AnyStr]", found)


class _Pattern:
    def __init__(self, text: Any, flags: int) -> None:
        self._text = text
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        method = getattr(re.compile(self._text, self._flags), name)
        # Found without this function from now on.
        setattr(self, name, method)
        return method


_awaited: dict[str, list[Callable[[], object]]] = {}


def after_import(name: str, function: Callable[[], object]) -> None:
    """Call a function once a module has been imported; at once if it has been already.

    It is called by the thread that imports the module, before any other sees it whole.
    What it raises is what the import raises.
    """
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if module is not None and not getattr(spec, "_initializing", False):
        function()
        return
    _awaited.setdefault(name, []).append(function)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


class _Finder:
    """Finds what the other finders find, and has the awaited told of."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _awaited:
            return None
        for finder in [*sys.meta_path]:
            if finder is self:
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                loader: Any = spec.loader
                if hasattr(loader, "exec_module"):
                    loader = _Loader(loader)
                spec.loader = loader
                return spec
        return None


class _Loader:
    """Loads a module by its own loader, which the module is left with."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        # As the import system does it, but only when the import is over.
        package, _, last = module.__name__.rpartition(".")
        if package:
            setattr(sys.modules[package], last, module)
        for function in _awaited.pop(module.__name__, []):
            function()


_finder: Any = _Finder()
