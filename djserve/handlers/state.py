"""Whether a middleware keeps anything from one request to the next.

Of one that does there must be no second instance: each would know a part of it. Django
has no word for that, so it is read from the code; in doubt it is taken for one.
What belongs to the class or the module is shared by all instances, and does not count.
"""

# Why the bytecode is read
#
# A rate limiter may keep a table of clients in an attribute. If each of two chains had
# an instance of it, a client would have two budgets, and no test of the project would
# tell. Nothing that Django offers answers the question, and an instance that could be
# looked at comes too late: what has been made has been registered, opened, started. So
# the class is judged before anything is made of it, by what its code could do.
#
# The two answers are not equally dangerous. "Keeps something" costs speed: one instance
# serves both lanes if that is possible, and else every view takes the asynchronous
# chain, as under Django's handler. "Keeps nothing" costs correctness if it is wrong. So
# nothing has to be recognised as dangerous; what is not recognised as harmless counts
# as kept:
#
# - ``__init__``, or a factory, may use what ``_PLAIN_NAMES`` has, settings in capitals
#   and what it has itself stored, and may make no list, dict or set. With these it can
#   keep what it is to call, its mode and constants (``_makes_nothing``).
# - A method may load the instance only to read an attribute of it, or to hand it to a
#   function that looks at its type (``_only_reads``). A store, an item of
#   ``__dict__``, the instance as an argument, in a closure or in another variable:
#   each may leave something behind.
# - Decorated methods, descriptors of other kinds and ``__new__`` run code that is not
#   looked at.
#
# ``notes_no_mode`` asks for less, for a twin (``twins``): state is welcome there, since
# the two share it, but it must not say in which mode the instance is called. A sum or a
# new table cannot; anything else that is stored could be a function or a coroutine's
# mark.
#
# Source text would be easier to read but may not be there, and does not show what the
# compiler made of it. The names of instructions change with Python's versions. One that
# is not known here makes a middleware count as keeping something; the tests have a
# class for each way to keep something, and run on each version.

from __future__ import annotations

import dis
from inspect import unwrap
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any

from django.utils.deprecation import MiddlewareMixin

# Packages whose middleware may exist twice: no state but what each makes from settings,
# and what all share (metrics in a registry, an id in a context variable).
_HARMLESS = frozenset(
    {
        *("django", "whitenoise", "corsheaders"),
        *("django_guid", "django_permissions_policy", "django_prometheus"),
    }
)

# What the making of a middleware may use: what it is to call, the project's settings,
# which all share, and constants. Only its methods can turn those into something kept.
_PLAIN_NAMES = frozenset(
    {
        "ImproperlyConfigured",
        "MiddlewareNotUsed",
        "TypeError",
        "ValueError",
        "__class__",
        "__init__",
        "_is_coroutine",
        "apps",
        "asyncio",
        "bool",
        "coroutines",
        "getattr",
        "get_response",
        "inspect",
        "int",
        "is_installed",
        "iscoroutinefunction",
        "isinstance",
        "markcoroutinefunction",
        "self",
        "settings",
        "str",
        "super",
    }
)

_ASKED_BY = frozenset({"iscoroutinefunction", "type"})
"""Functions that an instance may be handed to: they keep nothing of it."""

_BESIDE_THE_POINT = frozenset({"EXTENDED_ARG", "NOP", "PUSH_NULL"})
_READS = frozenset({"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"})
_CALLS = frozenset({"CALL", "PRECALL"})
_LOADS = frozenset({"IMPORT_NAME", "LOAD_GLOBAL", *_READS})
_SETTERS = frozenset({"__dict__", "__setattr__", "setattr", "vars"})
_MAKES = frozenset({"BUILD_LIST", "BUILD_MAP", "BUILD_SET"})

_SUMS_AND_TABLES = _MAKES | {"BINARY_OP"}

_SHARED = (
    staticmethod,
    classmethod,
    type,
    GetSetDescriptorType,
    MemberDescriptorType,
)
"""Members that belong to the class, or only give access to what methods set."""


def keeps_nothing(factory: Any) -> bool:
    """Return whether two of a middleware would be as good as one."""
    if not issubclass(type(factory), (type, FunctionType)):
        # The proxies of agents.
        factory = unwrap(factory)
    if _is_harmless(factory):
        return True
    if not isinstance(factory, type):
        return _makes_nothing(factory)
    return all(
        _is_stateless(name, member)
        for kind in factory.__mro__
        if kind is not object and not _is_harmless(kind)
        for name, member in vars(kind).items()
    )


def notes_no_mode(kind: type) -> bool:
    """Return whether the methods of a class set attributes to sums and tables alone.

    Any other could be what the instance calls, or whether that is asynchronous, noted
    when it is first called (``cached_property``).
    """
    return all(
        _notes_no_mode(member)
        for base in kind.__mro__
        if base is not object and base is not MiddlewareMixin
        for name, member in vars(base).items()
        if name != "__init__"
    )


def _notes_no_mode(member: Any) -> bool:
    kind = type(member)
    if issubclass(kind, property):
        parts = (member.fget, member.fset, member.fdel)
        return all(part is None or _notes_no_mode(part) for part in parts)
    if kind is FunctionType:
        code = member.__code__
        # What a decorator has put around a method is not followed.
        if hasattr(member, "__wrapped__") or not code.co_argcount:
            return False
        return _sets_sums_and_tables(code, code.co_varnames[0])
    return issubclass(kind, _SHARED) or not hasattr(kind, "__get__")


def _sets_sums_and_tables(code: CodeType, own: str) -> bool:
    """Return whether that is all that code sets of what is called ``own`` in it."""
    if not _SETTERS.isdisjoint(code.co_names):
        return False
    steps = [
        step
        for step in dis.get_instructions(code)
        if step.opname not in _BESIDE_THE_POINT
    ]
    return all(
        _is_harmless_store(own, place, steps)
        for place, step in enumerate(steps)
        if step.opname.startswith("STORE_")
    ) and all(
        _sets_sums_and_tables(inner, own)
        for inner in code.co_consts
        if isinstance(inner, CodeType)
    )


def _is_harmless_store(own: str, place: int, steps: list[dis.Instruction]) -> bool:
    target = steps[place - 1]
    takes_own = "LOAD_" in target.opname and own in _names(target)
    if not takes_own:
        # Of another object, or added to what is there.
        return True
    return (
        steps[place].opname == "STORE_ATTR"
        and len(_names(target)) == 1
        and steps[place - 2].opname in _SUMS_AND_TABLES
    )


def _is_harmless(factory: Any) -> bool:
    package = getattr(factory, "__module__", "").partition(".")[0]
    return factory is MiddlewareMixin or package in _HARMLESS


def _makes_nothing(make: Any) -> bool:
    """Return whether a factory or an ``__init__`` makes nothing that could be kept."""
    if type(make) is not FunctionType or hasattr(make, "__wrapped__"):
        return False
    code = make.__code__
    if not _PLAIN_NAMES.issuperset(code.co_cellvars):
        return False
    steps = list(dis.get_instructions(code))
    stored = {step.argval for step in steps if step.opname == "STORE_ATTR"}
    return all(
        step.opname not in _MAKES
        and (
            step.opname not in _LOADS
            or step.argval in _PLAIN_NAMES
            or step.argval in stored
            or (step.opname in _READS and step.argval.isupper())
        )
        for step in steps
    )


def _is_stateless(name: str, member: Any) -> bool:
    """Return whether a member of a class leaves no mark on its instances."""
    if name == "__new__":
        return False
    if name == "__init__":
        return _makes_nothing(member)
    # By the type: a lazy object would be evaluated for its own answer.
    kind = type(member)
    if issubclass(kind, property):
        parts = (member.fget, member.fset, member.fdel)
        return all(part is None or _only_reads(part) for part in parts)
    if kind is FunctionType:
        return _only_reads(member)
    # Any other descriptor may keep what it has been asked for (cached_property).
    return issubclass(kind, _SHARED) or not hasattr(kind, "__get__")


def _only_reads(method: Any) -> bool:
    """Return whether a method does no more with its instance than to read from it."""
    if type(method) is not FunctionType or hasattr(method, "__wrapped__"):
        return False
    code = method.__code__
    if not code.co_argcount:
        return False
    own = code.co_varnames[0]
    if own in code.co_cellvars:
        return False
    steps = [
        step
        for step in dis.get_instructions(code)
        if step.opname not in _BESIDE_THE_POINT
    ]
    return all(
        _is_reading(own, *steps[place - 1 : place + 2])
        for place, step in enumerate(steps)
        if "FAST" in step.opname and own in _names(step)
    )


def _names(step: dis.Instruction) -> tuple[Any, ...]:
    # Since Python 3.13 one instruction may be about two.
    names = step.argval
    return names if isinstance(names, tuple) else (names,)


def _is_reading(
    own: str, before: dis.Instruction, step: dis.Instruction, then: dis.Instruction
) -> bool:
    """Return whether a step loads the instance in order to read one of its attributes.

    Or to hand it to a function that keeps nothing of it.
    """
    names = _names(step)
    if "LOAD_FAST" not in step.opname or names[-1] != own or names.count(own) > 1:
        return False
    if then.opname in _READS:
        return bool(then.argval != "__dict__")
    return then.opname in _CALLS and before.argval in _ASKED_BY
