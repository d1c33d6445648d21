"""What tracing agents do to Django's handlers, in the forms that they do it in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from types import CodeType, FunctionType
from typing import Any

from asgiref.sync import iscoroutinefunction

SCOPE: ContextVar[dict[str, Any] | None] = ContextVar("scope", default=None)
"""The scope of an agent: forked for each request by a patched ``__call__``."""

SHARED: dict[str, Any] = {}
"""What is written to where no request has a scope: the data of all."""


def scope() -> dict[str, Any]:
    """Return the agent's scope of this request."""
    found = SCOPE.get()
    return SHARED if found is None else found


def isolates(call: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Return ``ASGIHandler.__call__`` as an error tracker makes it."""

    async def isolated(self: Any, scope: Any, receive: Any, send: Any) -> None:
        token = SCOPE.set({})
        try:
            await call(self, dict(scope), receive, send)
        finally:
            SCOPE.reset(token)

    return isolated


class Counted:
    """Counts the calls of a function, which each of the forms below passes on."""

    def __init__(self) -> None:
        self.calls = 0

    def plainly(self, function: Any) -> Any:
        """Return a function in its place, with nothing of the other."""

        async def called_async(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return await function(*args, **kwargs)

        def called(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return function(*args, **kwargs)

        return called_async if iscoroutinefunction(function) else called

    def as_decorator(self, function: Any) -> Any:
        """Return a function that has the other's name and module."""
        return wraps(function)(self.plainly(function))

    def as_proxy(self, function: Any) -> Any:
        """Return an object that is equal to the function, as those of wrapt are."""
        return Proxy(function, self.plainly(function))


@contextmanager
def code_put_into(function: Any) -> Iterator[list[str]]:
    """Have what is in a function count its calls, as agents by bytecode do.

    The function stays where it is; gives the list that a name is added to at each call.
    """
    code = function.__code__
    assert not code.co_freevars
    calls: list[str] = []
    inside = FunctionType(code, function.__globals__, argdefs=function.__defaults__)
    namespace: dict[str, Any] = {}
    exec(_TRAMPOLINE_ASYNC if iscoroutinefunction(function) else _TRAMPOLINE, namespace)
    _INSIDE[id(code)] = (calls, function.__qualname__, inside)
    trampoline = namespace["enter"].__code__
    function.__code__ = trampoline.replace(
        co_consts=tuple(
            id(code) if constant == _PLACE else constant
            for constant in trampoline.co_consts
        )
    )
    try:
        yield calls
    finally:
        function.__code__ = code
        del _INSIDE[id(code)]


_PLACE = 1234567
_INSIDE: dict[int, tuple[list[str], str, Any]] = {}
_TRAMPOLINE = f"""
def enter(*args, **kwargs):
    from tests.handlers.agents import run_inside
    return run_inside({_PLACE}, args, kwargs)
"""
_TRAMPOLINE_ASYNC = f"""
async def enter(*args, **kwargs):
    from tests.handlers.agents import run_inside
    return await run_inside({_PLACE}, args, kwargs)
"""


def run_inside(place: int, args: Any, kwargs: Any) -> Any:
    """Called by the code that was put into a function; calls what was there."""
    calls, name, function = _INSIDE[place]
    calls.append(name)
    return function(*args, **kwargs)


def rewritten(code: CodeType) -> CodeType:
    """Return what an agent puts inside of a function, which stays where it is."""
    return code.replace(co_consts=(*code.co_consts, "an agent's"))


class Proxy:
    """A stand-in for a function that answers for all of its attributes."""

    def __init__(self, wrapped: Any, called: Any) -> None:
        self.__dict__.update(__wrapped__=wrapped, called=called)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["__wrapped__"], name)

    def __eq__(self, other: object) -> bool:
        return bool(self.__wrapped__ == other)

    def __hash__(self) -> int:
        return hash(self.__wrapped__)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return FunctionType

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        wrapped = self.__wrapped__.__get__(instance, owner)
        called = self.__dict__["called"].__get__(instance, owner)
        return Proxy(wrapped, called)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__dict__["called"](*args, **kwargs)
