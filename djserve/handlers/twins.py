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
# - It knows no mode of its own. It is called in the same mode in both lanes, or it is
#   nothing but hooks (``is_coalescible``), or its dictionary has nothing from which it
#   could know the mode but what it calls and the usual marks, and its methods put
#   nothing of the kind there (``notes_no_mode``). Those marks are hidden by descriptors
#   as well, if the second lane calls it synchronously.
# - It is found. Agents put their own objects around it; from what the first chain
#   calls, everything that can be called is followed until each class has its instance.
#
# Agents get the twins from where they get the classes: from ``import_string``, which
# ends in ``cached_import``. That is replaced while the second chain is built, and
# answers other threads as ever.

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from django.conf import settings
from django.core.handlers.base import BaseHandler
from django.utils import module_loading
from django.utils.module_loading import import_string

from djserve.handlers.chain import Stage, choose_mode
from djserve.handlers.layers import is_coalescible
from djserve.handlers.state import keeps_nothing, notes_no_mode

MOST = 10_000
"""Objects that are looked at for the instances of a chain."""

DEPTH = 4
"""Steps from a middleware's attribute to a handler that it may hold."""

_CALLED = "get_response"
_MODES = {"async_mode": False, "_is_coroutine": None, "_is_coroutine_marker": None}
"""What a twin of hooks answers, which is called in the synchronous mode."""

_replacing = threading.RLock()


def make_twins(handler: BaseHandler) -> dict[str, type] | None:
    """Return classes of twins, by path, for what must not be made a second time.

    ``handler`` has loaded its middleware, asynchronously. None if there is one of which
    there can be no twin. Raises what importing a middleware raises.
    """
    wanted = [*_find_single()]
    found = _find_instances(handler, [kind for _, kind, _ in wanted])
    return _complete(
        (path, found.get(kind), is_divided) for path, kind, is_divided in wanted
    )


def twins_of(stages: Iterable[Stage]) -> dict[str, type] | None:
    """Return the same for stages that the lanes call in different modes."""
    return _complete((stage.path, stage.instance, True) for stage in stages)


def _complete(
    instances: Iterable[tuple[str, Any, bool]],
) -> dict[str, type] | None:
    twins: dict[str, type] = {}
    for path, instance, is_divided in instances:
        is_one = settings.MIDDLEWARE.count(path) == 1
        twin = _make_twin(instance, is_divided) if is_one else None
        if twin is None:
            return None
        twins[path] = twin
    return twins


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


def _find_single() -> Iterator[tuple[str, Any, bool]]:
    """Yield the path and class of each that may exist once only.

    With each, whether the two lanes call it in different modes.
    """
    is_async, other = True, False
    for path in reversed(settings.MIDDLEWARE):
        middleware = import_string(path)
        is_async = choose_mode(path, middleware, is_async)
        other = choose_mode(path, middleware, other)
        if not keeps_nothing(middleware):
            yield path, middleware, is_async != other


def _find_instances(handler: BaseHandler, kinds: Iterable[Any]) -> dict[Any, Any]:
    """Return the instances of these classes that a handler's chain calls."""
    wanted = {kind for kind in kinds if isinstance(kind, type)}
    found: dict[Any, Any] = {}
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
    if isinstance(called, (type, ModuleType)):
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


def _make_twin(instance: Any, is_divided: bool) -> type | None:
    """Return a class whose one instance shares all attributes with this one.

    None if there can be no such twin. If ``is_divided``, the twin is synchronous.
    """
    kind = type(instance)
    kept = getattr(instance, "__dict__", None)
    if type(kind) is not type or not isinstance(kept, dict) or hasattr(kind, _CALLED):
        return None
    if (
        is_divided
        and not is_coalescible(kind)
        # Both lanes would find what the first call has noted.
        and (kept.keys() - {_CALLED, *_MODES} or not notes_no_mode(kind))
    ):
        return None
    called = kept.get(_CALLED)
    others = [value for name, value in kept.items() if name != _CALLED]
    if called is None or _leads_to(called, others):
        return None

    def make(cls: type, *args: Any, **kwargs: Any) -> Any:
        twin: Any = object.__new__(cls)
        twin.__dict__ = kept
        cls.get_response = _Fixed(args[0] if args else kwargs[_CALLED])  # type: ignore[attr-defined]
        return twin

    def do_nothing(self: object, *args: object, **kwargs: object) -> None:
        """It has been initialised: its attributes are those of the first."""

    members: dict[str, Any] = {"__new__": make, "__init__": do_nothing}
    # Receivers of its signals may ask for the class.
    members["__class__"] = _Fixed(kind)
    if is_divided:
        members |= {name: _Fixed(value) for name, value in _MODES.items()}
    members |= {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    try:
        return type(kind.__name__, (kind,), members)
    except TypeError:
        return None


def _leads_to(called: Any, values: Sequence[Any]) -> bool:
    """Return whether any of these, or what they are made of, is what is called."""
    for _ in range(DEPTH):
        if any(value is called for value in values):
            return True
        values = [part for value in values for part in _parts(value)]
    return False


class _Fixed:
    """An attribute that comes before the one in the dictionary, and stays as it is."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __get__(self, instance: object, owner: type) -> Any:
        return self._value

    def __set__(self, instance: object, value: object) -> None:
        """Leave it, and what the dictionary has, too."""
