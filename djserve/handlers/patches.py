"""Django's handlers as they are in its source, and what agents have replaced of them.

A tracing agent may replace a class by its own subclass, or by a proxy. djserve's
handlers derive from the classes in Django's source; an instance of the agent's class
stays what it is.

An agent also replaces ``ASGIHandler.__call__``, ``get_response`` and others, before or
after an application is made, and relies on all of them being called.
Each method is compared with what Django's source defines; from then on, a comparison of
identities before each request tells whether anything has changed. The same goes for the
two methods by which asgiref takes a call into a thread.
"""

# Why identities, and why codes
#
# The question is asked for each request, so it must cost next to nothing, and a wrong
# "nothing has changed" would leave an agent's code uncalled: a trace without a request,
# or a check of access that an agent adds. So what is kept is not an answer, but the
# objects that the answer was about:
#
# - A method of the class is compared by identity. By equality would be wrong: a proxy
#   of wrapt is equal to what it wraps.
# - A function's ``__code__`` is compared too. Some agents leave the function in place
#   and put other code into it, since that also reaches who has kept a reference.
# - The size of the class's own dict is compared, if anything had been replaced: a
#   method that Django inherits may be given to the subclass, where no identity changes.
# - ``_INNER`` is compared by its code alone: a chain that is built has bound the
#   method, and a later replacement of it reaches no chain, as under Django's own
#   handler.
#
# ``_seen`` holds the last full look. It is clean if that found what was there when this
# module was imported, and that was Django's source; only then are the constants at the
# end of the module of use, and each comparison with one is a load and a test. With an
# agent there ``_Snapshot.is_current`` does the same over lists, and a difference leads
# to a new look; Django's sources are compiled once for all of them (``_codes``).
#
# Races are harmless: a replacement that comes while a request is on its way counts from
# the next one on, and that is all that Django's handler promises either.

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from inspect import getattr_static, unwrap
from operator import attrgetter, is_, itemgetter
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from asgiref import sync
from asgiref.sync import SyncToAsync
from django.core.handlers import asgi, base, exception
from django.utils import module_loading

from djserve.handlers.threads.asgiref_compat import CALL_METHODS
from djserve.values import Values


def find_base(found: Any) -> Any:
    """Return the class with ``load_middleware`` that ``found`` comes from."""
    lineage = reversed(unwrap(found).__mro__)
    return next(kind for kind in lineage if "load_middleware" in vars(kind))


def find_handler(root: Any) -> Any:
    """Return the first class derived from ``root`` that is a handler for ASGI."""
    return next(kind for kind in _heirs(root) if "create_request" in vars(kind))


def _heirs(root: Any) -> Iterator[Any]:
    """Return all that derive from a class, each before those that derive from it."""
    kinds = root.__subclasses__()
    yield from kinds
    for kind in kinds:
        yield from _heirs(kind)


if TYPE_CHECKING:
    OriginalBase = base.BaseHandler
    OriginalHandler = asgi.ASGIHandler
else:
    OriginalBase = find_base(base.BaseHandler)
    OriginalHandler = find_handler(OriginalBase)


ENTRY = "__call__"

_CONVERSATION = (
    "handle",
    "listen_for_disconnect",
    "read_body",
    "send_response",
    "chunk_bytes",
)
"""What djserve does in another way: replaced, all of Django's ``handle`` runs."""

_ASYNC = ("run_get_response",)
"""What exists for asynchronous calls alone."""

_PAIRS = (
    ("get_response", "get_response_async"),
    ("_get_response", "_get_response_async"),
)
"""What Django has for synchronous and asynchronous calls."""

_LOADING = ("load_middleware", "adapt_method_mode")

_INHERITED = (
    "create_request",
    "resolve_request",
    "make_view_atomic",
    "check_response",
    "process_exception_by_middleware",
)
"""What djserve calls, or inherits, as it is."""

_HELPERS = (
    (base, module_loading, "import_string"),
    (base, exception, "convert_exception_to_response"),
    (exception, exception, "convert_exception_to_response"),
    (exception, exception, "response_for_exception"),
)
"""Functions that Django's ``load_middleware`` and its chain call: the module that
calls, the one that defines, the name."""

_METHODS = (
    ENTRY,
    *_CONVERSATION,
    *_ASYNC,
    *(name for pair in _PAIRS for name in pair),
    *_LOADING,
    *_INHERITED,
)

METHODS = frozenset(_METHODS)
"""What may be replaced."""

# Not the makers of a patch, but what they make it with; our own are no patches.
_TOOLS = frozenset(
    {"builtins", "contextlib", "django", "djserve", "functools", "wrapt"}
)

_OWN, _BASE = vars(OriginalHandler), vars(OriginalBase)

# What is looked at again for each request. The rest is inherited, and a later patch
# takes effect by itself, or it is used only when the chain is built.
_read_own: Callable[[Any], tuple[Any, ...]] = itemgetter(
    ENTRY, *_CONVERSATION[:-1], *_ASYNC
)
_read_base: Callable[[Any], tuple[Any, ...]] = itemgetter(*_PAIRS[0])
_read_inner: Callable[[Any], tuple[Any, ...]] = itemgetter(*_PAIRS[1])
_code_of = attrgetter("__code__")


class Patch(NamedTuple):
    """One method that is not Django's own, and the packages that have replaced it."""

    name: str
    packages: frozenset[str]


class Patches(Values):
    """What has been replaced, and what that leaves to djserve.

    ``enters``: the way to ``handle`` leads through ``ASGIHandler.__call__``.
    ``converses``: Django's ``handle`` has to run, with all that it calls.
    ``answers``: only the asynchronous methods may answer, as under Django's handler.
    ``loads``: Django has to build the chain of middleware.
    """

    found: tuple[Patch, ...] = ()
    enters: bool = False
    converses: bool = False
    answers: bool = False
    loads: bool = False

    @property
    def packages(self) -> list[str]:
        """The packages that have replaced anything."""
        return sorted({name for patch in self.found for name in patch.packages})

    def describe(self) -> str:
        """Return what is replaced, by whom, and who answers; "" for nothing."""
        if not self.found:
            return ""
        if self.converses:
            outcome = "Django's handler runs, with all of it"
        elif self.answers:
            outcome = "djserve's handler runs inside, all views in the async lane"
        else:
            outcome = "djserve's handler runs inside"
        names = ", ".join(patch.name for patch in self.found)
        # Code that was put into a method says of itself that it is Django's.
        packages = [name for name in self.packages if name != "django"]
        who = ", ".join(packages) or "An agent"
        return f"{who} has replaced {names}: {outcome}"

    def with_instance(self, names: Iterable[str]) -> Patches:
        """Return these with methods of a single instance replaced as well."""
        given = METHODS.intersection(names)
        return replace(
            self,
            found=(*self.found, *(Patch(name, frozenset()) for name in sorted(given))),
            converses=self.converses or not given.isdisjoint(_CONVERSATION),
            answers=self.answers or not given.isdisjoint((*_ASYNC, *_PAIRS[0])),
        )


NO_PATCHES = Patches()


def current_patches() -> Patches:
    """Return what is replaced at this moment; cheap enough to ask for each request."""
    # Written out, since it is asked for each request: a tenth of the instructions that
    # the same takes over a list of names (benchmark: django_sync). What djserve calls
    # or inherits as it is takes effect by itself, whenever it is replaced.
    if (
        _seen.is_clean
        and _KIND.__call__ is _CALL
        and _KIND.handle is _HANDLE
        and _KIND.get_response_async is _GET_RESPONSE_ASYNC
        and _KIND.get_response is _GET_RESPONSE
        and _KIND.run_get_response is _RUN
        and _KIND.send_response is _SEND
        and _KIND.read_body is _READ
        and _KIND.listen_for_disconnect is _LISTEN
        and _CALL.__code__ is _CALL_CODE
        and _HANDLE.__code__ is _HANDLE_CODE
        and _GET_RESPONSE.__code__ is _GET_RESPONSE_CODE
        and _GET_RESPONSE_ASYNC.__code__ is _GET_RESPONSE_ASYNC_CODE
        and _INNER.__code__ is _INNER_CODE
        and _INNER_ASYNC.__code__ is _INNER_ASYNC_CODE
        and _RUN.__code__ is _RUN_CODE
        and _SEND.__code__ is _SEND_CODE
        and _READ.__code__ is _READ_CODE
        and _LISTEN.__code__ is _LISTEN_CODE
    ):
        return NO_PATCHES
    if _seen.is_clean or not _seen.is_current():
        return refresh_patches()
    return _seen.patches


def refresh_patches() -> Patches:
    """Look at everything again: before a chain is built."""
    global _seen
    _seen = _Snapshot()
    return _seen.patches


def resolves_as_django() -> bool:
    """Whether ``resolve_request`` is the method in Django's source, watched or not."""
    return (
        _RESOLVES_AS_DJANGO
        and _KIND.resolve_request is _expected_resolve
        and _RESOLVE.__code__ is _RESOLVE_CODE
    )


def watch_resolution(wrap: Callable[[Any], Any]) -> None:
    """Put a wrapper that changes no result around Django's ``resolve_request``.

    It does not count as a replacement, but what an agent has put there before does.
    """
    global _expected_resolve
    found = _BASE["resolve_request"]
    watched = wrap(found)
    OriginalBase.resolve_request = watched  # type: ignore[method-assign]
    if found is _expected_resolve:
        _expected_resolve = watched


def is_asgiref_patched() -> bool:
    """Return whether what asgiref does around a call in a thread has been replaced."""
    kind = SyncToAsync
    return not (
        _IS_ASGIREF_ORIGINAL
        and kind.__call__ is _ENTER_THREAD
        and kind.thread_handler is _THREAD_HANDLER
        and _ENTER_THREAD.__code__ is _ENTER_THREAD_CODE
        and _THREAD_HANDLER.__code__ is _THREAD_HANDLER_CODE
    )


def is_original(module: ModuleType, qualname: str, found: object) -> bool:
    """Whether ``found`` is the function of that name in the source of ``module``."""
    if type(found) is classmethod:
        found = found.__func__
    if type(found) is not FunctionType:
        return False
    codes = _codes(module.__name__)
    if codes is None:
        # Compiled without a source: by what the function says of itself.
        return (
            found.__globals__ is vars(module)
            and found.__qualname__ == qualname
            and not vars(found)
        )
    expected = codes.get(qualname)
    return expected is not None and _same_code(found.__code__, expected)


def is_original_method(owner: type, name: str) -> bool:
    """Whether a class or a class that it inherits from has this method as written."""
    for kind in owner.__mro__:
        if name in vars(kind):
            return is_original(
                sys.modules[kind.__module__],
                f"{kind.__qualname__}.{name}",
                vars(kind)[name],
            )
    return False


class _Snapshot:
    """The methods as they are at one moment."""

    def __init__(self) -> None:
        self._own = _read_own(_OWN)
        self._base = _read_base(_BASE)
        self._size = len(_OWN)
        # Those that a chain is built with stay in it: only their code can be replaced.
        methods = (*self._own, *self._base, *_read_inner(_BASE))
        functions = [found for found in methods if type(found) is FunctionType]
        self._functions = functions
        self._codes = list(map(_code_of, functions))
        patches = _read()
        self.patches = patches if patches.found else NO_PATCHES
        # What was there when this was imported, and was Django's then.
        self.is_clean = not patches.found and self._is_as_imported()

    def _is_as_imported(self) -> bool:
        return all(map(is_, (*self._own, *self._base), _IMPORTED)) and all(
            map(is_, self._codes, _IMPORTED_CODES)
        )

    def is_current(self) -> bool:
        # Identities: the proxies of agents are equal to what they stand for. And codes:
        # some agents replace those inside of the functions.
        return (
            len(_OWN) == self._size
            and all(map(is_, _read_own(_OWN), self._own))
            and all(map(is_, _read_base(_BASE), self._base))
            and all(map(is_, map(_code_of, self._functions), self._codes))
        )


def _read() -> Patches:
    methods = dict(_patched_methods())
    helpers = tuple(_patched_helpers())
    pairs = [tuple(map(methods.get, pair)) for pair in _PAIRS]
    return Patches(
        found=(*methods.values(), *helpers),
        enters=ENTRY in methods,
        converses=not methods.keys().isdisjoint(_CONVERSATION),
        answers=not methods.keys().isdisjoint(_ASYNC)
        or any(_packages_of(one) != _packages_of(other) for one, other in pairs),
        loads=bool(helpers) or not methods.keys().isdisjoint(_LOADING),
    )


def _packages_of(patch: Patch | None) -> frozenset[str] | None:
    return None if patch is None else patch.packages


def _patched_methods() -> Iterator[tuple[str, Patch]]:
    module: ModuleType
    for name in _METHODS:
        found = getattr_static(OriginalHandler, name)
        module, owner = asgi, "ASGIHandler"
        if name in _BASE:
            module, owner = base, "BaseHandler"
        if is_original(module, f"{owner}.{name}", found):
            continue
        packages = frozenset(_find_packages(found))
        if packages != {"djserve"}:
            label = f"{owner}.{name}"
            yield name, Patch(label, packages - {"djserve"})


def _patched_helpers() -> Iterator[Patch]:
    for user, definer, name in _HELPERS:
        found = getattr(user, name)
        if not is_original(definer, name, found):
            yield Patch(f"{user.__name__}.{name}", frozenset(_find_packages(found)))


def _find_packages(patch: object) -> set[str]:
    """Return the top-level packages of all that a patch is made of."""
    packages: set[str] = set()
    seen: set[int] = set()
    waiting = [patch]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        package = _module_of(part).partition(".")[0]
        # The types of a C extension may name a module that is none (ddtrace's wrapt).
        if package in sys.modules and (package == "djserve" or package not in _TOOLS):
            packages.add(package)
        if package != "django" or _is_rewritten(part):
            waiting += _parts(part)
    return packages or {_module_of(patch).partition(".")[0]}


def _module_of(part: Any) -> str:
    # Not __module__: functools.wraps and proxies take it from what they wrap.
    if type(part) is FunctionType:
        return str(part.__globals__.get("__name__", "?"))
    return type(part).__module__


def _is_rewritten(part: object) -> bool:
    """Whether a function of Django's has another's code."""
    if type(part) is not FunctionType:
        return True
    codes = _codes(part.__module__) or {}
    code = codes.get(part.__qualname__)
    return code is None or not _same_code(part.__code__, code)


def _parts(part: Any) -> Iterator[object]:
    """Return the callables that a function or a proxy of one refers to."""
    for name in ("__wrapped__", "_self_wrapper", "_nr_wrapper", "__func__"):
        inner = getattr(part, name, None)
        if callable(inner):
            yield inner
    if type(part) is not FunctionType:
        return
    for cell in part.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:
            continue
        if type(content) is FunctionType or hasattr(content, "__wrapped__"):
            yield content
    for constant in part.__code__.co_consts:
        if type(constant) is FunctionType:
            yield constant


def _same_code(one: CodeType, other: CodeType) -> bool:
    # Not by ==: profilers and debuggers leave marks in the instructions, and co_code
    # has them without.
    return (
        one.co_code == other.co_code
        and one.co_names == other.co_names
        and one.co_varnames == other.co_varnames
        and one.co_freevars == other.co_freevars
        and one.co_firstlineno == other.co_firstlineno
    )


@cache
def _codes(module: str) -> Mapping[str, CodeType] | None:
    """Return the code of each function of a module's source, by its qualified name."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    get_code = getattr(spec and spec.loader, "get_code", None)
    code = None if get_code is None else get_code(module)
    return None if code is None else dict(_walk(code, ""))


def _walk(code: CodeType, prefix: str) -> Iterator[tuple[str, CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield prefix + constant.co_name, constant
            yield from _walk(constant, f"{prefix}{constant.co_name}.")


_KIND: Any = OriginalHandler
_IMPORTED = (*_read_own(_OWN), *_read_base(_BASE))
_IMPORTED_CODES = [
    getattr(method, "__code__", None) for method in (*_IMPORTED, *_read_inner(_BASE))
]
_CALL, _HANDLE, _LISTEN, _READ, _SEND, _RUN = _read_own(_OWN)
_GET_RESPONSE, _GET_RESPONSE_ASYNC = _read_base(_BASE)
_INNER, _INNER_ASYNC = _read_inner(_BASE)
(
    _CALL_CODE,
    _HANDLE_CODE,
    _LISTEN_CODE,
    _READ_CODE,
    _SEND_CODE,
    _RUN_CODE,
    _GET_RESPONSE_CODE,
    _GET_RESPONSE_ASYNC_CODE,
    _INNER_CODE,
    _INNER_ASYNC_CODE,
) = _IMPORTED_CODES


_seen = _Snapshot()

_RESOLVE = _expected_resolve = _BASE["resolve_request"]
_RESOLVE_CODE = getattr(_RESOLVE, "__code__", None)
_RESOLVES_AS_DJANGO = is_original(base, "BaseHandler.resolve_request", _RESOLVE)

_ENTER_THREAD, _THREAD_HANDLER = CALL_METHODS
_ENTER_THREAD_CODE, _THREAD_HANDLER_CODE = (
    getattr(method, "__code__", None) for method in (_ENTER_THREAD, _THREAD_HANDLER)
)
_IS_ASGIREF_ORIGINAL = is_original(
    sync, "SyncToAsync.__call__", _ENTER_THREAD
) and is_original(sync, "SyncToAsync.thread_handler", _THREAD_HANDLER)
