"""One set of attributes for a middleware that two chains need an instance of each.

If an agent replaces what builds a chain, Django builds one for each lane, and makes
each middleware twice. One that keeps something (a counter, a table of clients) would
then know half of it. So the second is a twin of the first: it is never initialised, has
the dictionary of the first as its own, and differs only in what it calls.
"""

# What must hold for a twin
#
# - What the middleware calls is in its attribute ``get_response`` and nowhere else. The
#   twin's class has a descriptor of that name, which comes before the dictionary.
# - Its code does the same in both lanes: it is called in the same mode, or it is
#   nothing but hooks, which have no mode (``is_coalescible``). Then the marks of a mode
#   that ``MiddlewareMixin`` leaves in the dictionary are hidden by descriptors, too.
# - It is found. Agents put their own objects around it; from what the first chain
#   calls, everything that can be called is followed until each class has its instance.
#
# Agents get the twins from where they get the classes: from ``import_string``, which
# ends in ``cached_import``. That is replaced while the second chain is built, and
# answers other threads as ever.

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from django.conf import settings
from django.core.handlers.base import BaseHandler
from django.utils import module_loading
from django.utils.module_loading import import_string

from djserve.handlers.chain import choose_mode
from djserve.handlers.layers import is_coalescible
from djserve.handlers.state import keeps_nothing

MOST = 10_000
"""Objects that are looked at for the instances of a chain."""

_CALLED = "get_response"
_MODES = {"async_mode": False, "_is_coroutine": None, "_is_coroutine_marker": None}
"""What a twin of hooks answers, which is called in the synchronous mode."""

_replacing = threading.RLock()


def make_twins(handler: BaseHandler) -> dict[str, type] | None:
    """Return classes of twins, by path, for what must not be made a second time.

    ``handler`` has loaded its middleware, asynchronously. None if there is one of which
    there can be no twin. Raises what importing a middleware raises.
    """
    wanted = dict(_find_single())
    if None in wanted.values():
        return None
    found = _find_instances(handler, [kind for kind in wanted.values() if kind])
    twins = {
        path: _make_twin(found[kind]) if kind in found else None
        for path, kind in wanted.items()
    }
    made = {path: twin for path, twin in twins.items() if twin is not None}
    return made if len(made) == len(twins) else None


@contextmanager
def standing_in(twins: Mapping[str, type]) -> Iterator[None]:
    """Let ``import_string`` return twins, in this thread, during the block."""
    here = threading.get_ident()
    with _replacing:
        module: Any = module_loading
        original: Callable[[str, str], Any] = module.cached_import

        def import_twin(module_path: str, class_name: str) -> Any:
            twin = twins.get(f"{module_path}.{class_name}")
            if twin is not None and threading.get_ident() == here:
                return twin
            return original(module_path, class_name)

        module.cached_import = import_twin
        try:
            yield
        finally:
            module.cached_import = original


def _find_single() -> Iterator[tuple[str, type | None]]:
    """Yield the path and class of each that may exist once only.

    None for what is not a class, or would be called in different modes.
    """
    is_async, other = True, False
    for path in reversed(settings.MIDDLEWARE):
        middleware = import_string(path)
        is_async = choose_mode(path, middleware, is_async)
        other = choose_mode(path, middleware, other)
        if keeps_nothing(middleware):
            continue
        is_same = is_async == other or is_coalescible(middleware)
        is_one = settings.MIDDLEWARE.count(path) == 1
        yield (
            path,
            middleware if type(middleware) is type and is_same and is_one else None,
        )


def _find_instances(handler: BaseHandler, kinds: Iterable[type]) -> dict[type, Any]:
    """Return the instances of these classes that a handler's chain calls."""
    wanted = {*kinds}
    found: dict[type, Any] = {}
    hooks: Any = handler
    chain: list[Any] = [hooks._middleware_chain, *hooks._view_middleware]
    waiting = [
        *chain,
        *hooks._template_response_middleware,
        *hooks._exception_middleware,
    ]
    seen: dict[int, Any] = {}
    while waiting and len(seen) < MOST and len(found) < len(wanted):
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen[id(each)] = each
        if type(each) in wanted:
            found[type(each)] = each
        waiting += filter(callable, _parts(each))
    return found


def _parts(called: Any) -> Iterator[Any]:
    """Yield what something that can be called may call in turn."""
    if isinstance(called, type):
        return
    if isinstance(called, MethodType):
        yield called.__self__
        return
    if isinstance(called, FunctionType):
        for cell in called.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:
                continue
    if isinstance(called, partial):
        yield called.func
        yield from called.args
    yield from getattr(called, "__dict__", {}).values()


def _make_twin(instance: Any) -> type | None:
    """Return a class whose one instance shares all attributes with this one."""
    kind = type(instance)
    kept = getattr(instance, "__dict__", None)
    if not isinstance(kept, dict) or hasattr(kind, _CALLED):
        return None
    called = kept.get(_CALLED)
    if called is None or any(
        value is called for name, value in kept.items() if name != _CALLED
    ):
        return None

    def make(cls: type, *args: Any, **kwargs: Any) -> Any:
        twin: Any = object.__new__(cls)
        twin.__dict__ = kept
        cls.get_response = _Fixed(args[0] if args else kwargs[_CALLED])  # type: ignore[attr-defined]
        return twin

    def do_nothing(self: object, *args: object, **kwargs: object) -> None:
        """It has been initialised: its attributes are those of the first."""

    members: dict[str, Any] = {"__new__": make, "__init__": do_nothing}
    if is_coalescible(kind):
        members |= {name: _Fixed(value) for name, value in _MODES.items()}
    members |= {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    try:
        return type(kind.__name__, (kind,), members)
    except TypeError:
        return None


class _Fixed:
    """An attribute that comes before the one in the dictionary, and stays as it is."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __get__(self, instance: object, owner: type) -> Any:
        return self._value

    def __set__(self, instance: object, value: object) -> None:
        """Leave it, and what the dictionary has, too."""
