"""Modules of other packages that are imported when they are first used, not before.

``postponed`` has others import them later; ``after_import`` has something done when an
application imports one that djserve itself may do without. ``pattern`` does the same
for regular expressions.
"""

# What is postponed, and how
#
# Twisted's reactor imports pyOpenSSL, which with cryptography is a quarter of its
# import, for TLS that most servers leave to the event loop; and http.cookiejar, which
# brings urllib and the email package, for a name that only Twisted's web client uses.
# Autobahn imports pyOpenSSL to look at errors, click for the colours of what it logs,
# hyperlink for a client. None of them has a switch for that.
#
# A stand-in takes such a module's place in ``sys.modules`` while the other is imported,
# and only then: an import that follows gets the module itself. The other keeps the
# stand-in under the name that it has imported, and with the first attribute that it
# asks for, the module is imported and gives it.
#
# The block is not alone. WebSocket is imported in a thread, half a second after the
# start (``server.launch``), and a request may import one of these modules meanwhile.
# With plain stand-ins it got "'click' is not a package", in five of nine starts. So
# there are three ways for a module to come into its place, and each has its part:
#
# - The thread that has made the stand-in asks it for an attribute
#   (``StandIn.__getattr__``). The import system asks for some, too, such as
#   ``__path__``; to it the stand-in is a module without any.
# - Another thread imports the module, or looks it up in ``sys.modules``. Whatever it
#   asks for is the module's own (``StandIn.__getattribute__``). The import system asks
#   for ``__spec__`` before it hands out what it has found, so that is enough.
# - Another thread imports a module *of* a package that is stood in for. The import
#   system takes the package's ``__path__`` from the stand-in, and goes on to look for a
#   module that the package's own import may just have brought: a second instance of it
#   would have classes of its own, which no ``isinstance`` of the first knows. The path
#   is marked therefore (``_Path``), and the finder returns what is there already
#   (``_Present``).
#
# ``_removing`` makes one step of finding a stand-in in ``sys.modules`` and taking it
# out. Without that, one thread could take out the module that another has just put
# there.
#
# Under Django's reloader all is imported as usual: its thread looks up every name of
# ``sys.modules``, and must not meet one that has gone.
#
# ``after_import`` needs the same finder, first in ``sys.meta_path``. It asks the others
# in their order and wraps the loader of what they find, but for the execution alone:
# the module is left with its own loader. What an awaiting function raises is what the
# import raises, since an application that went on with another reactor than the one
# that runs would never be called back.

from __future__ import annotations

import os
import re
import sys
import threading
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, AnyStr, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# The variable by which a process knows that Django's reloader has started it.
_RELOADED = "RUN_MAIN"


_removing = threading.Lock()


class StandIn(ModuleType):
    """Has what a module has, which is imported when the first of it is asked for.

    Only the thread that has made it finds that it is not the module.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._made_in = threading.get_ident()

    def __getattribute__(self, name: str) -> Any:
        own = super().__getattribute__
        if own("_made_in") == threading.get_ident():
            return own(name)
        # The import system asks for __spec__ before it lets a thread have a module, and
        # for __path__ before it imports another one of a package.
        found = getattr(_import_in_place(own("__name__"), self), name)
        return _Path(found) if name == "__path__" else found

    def __getattr__(self, name: str) -> Any:
        module = super().__getattribute__("__name__")
        # The import system asks for some of these: a stand-in is no package.
        if name.startswith("__"):
            raise AttributeError(f"{module} has not been imported yet")
        return getattr(_import_in_place(module, self), name)


def _import_in_place(name: str, stand_in: StandIn) -> ModuleType:
    """Import the module that something stands in for, after the package that has it."""
    package = name.rpartition(".")[0]
    parent = sys.modules.get(package)
    if type(parent) is StandIn:
        _import_in_place(package, parent)
    _remove(name, stand_in)
    return import_module(name)


def _remove(name: str, stand_in: StandIn) -> None:
    with _removing:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


class _Path(list[str]):
    """A package's path, for who has asked a stand-in for it.

    The package's own import may have brought the module that is then looked for.
    """


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
        if module in sys.modules or not _is_installed(module):
            # Of one that is missing, the other has to hear, and does without.
            continue
        added[module] = stand_in = StandIn(module)
        if attribute:
            setattr(stand_in, attribute, postponed_call(module, attribute))
        package, _, last = module.rpartition(".")
        if package in added:
            setattr(added[package], last, stand_in)
    _put_finder()
    sys.modules.update(added)
    try:
        yield
    finally:
        for module, stand_in in added.items():
            _remove(module, stand_in)


def _is_installed(module: str) -> bool:
    top = module.partition(".")[0]
    return top in sys.modules or find_spec(top) is not None


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
    What it raises is what the import raises, and it is called again with the next one.
    """
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if module is not None and not getattr(spec, "_initializing", False):
        function()
        return
    _awaited.setdefault(name, []).append(function)
    _put_finder()


def _put_finder() -> None:
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


class _Finder:
    """Finds what the other finders find, and has the awaited told of."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if type(path) is _Path and name in sys.modules:
            present: Any = _Present(sys.modules[name])
            return ModuleSpec(name, present)
        if name not in _awaited:
            return None
        for finder in [*sys.meta_path]:
            # The import system, too, passes those over that are of Python 2's kind.
            if finder is self or not hasattr(finder, "find_spec"):
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

    def __getattr__(self, name: str) -> Any:
        # Who finds the module without importing it may ask for its source or data.
        if name == "_loader":
            raise AttributeError(name)
        return getattr(self._loader, name)

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
        for function in _awaited.get(module.__name__, []):
            function()
        _awaited.pop(module.__name__, None)


class _Present:
    """Loads a module that is there already: it is left as it is."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._spec = module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


_finder: Any = _Finder()
