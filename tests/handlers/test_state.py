"""Which middleware keeps something from one request to the next."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial, wraps
from types import FunctionType
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest
from django.middleware.locale import LocaleMiddleware
from django.utils.deprecation import MiddlewareMixin
from django.utils.functional import SimpleLazyObject, cached_property

from djserve.handlers.state import keeps_nothing, notes_no_mode
from tests.handlers import middleware
from tests.handlers.agents import Proxy


def decorator(method: Any) -> Any:
    @wraps(method)
    def decorated(*args: Any) -> Any:
        return method(*args)

    return decorated


class Calls:
    """Keeps what it calls."""

    def __init__(self, get_response: Callable[..., Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)


class InBothModes(Calls):
    """As the documentation of Django has it."""

    async_capable = True

    def __init__(self, get_response: Callable[..., Any]) -> None:
        super().__init__(get_response)
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if iscoroutinefunction(self):
            return self.__acall__(request)
        return super().__call__(request)

    async def __acall__(self, request: HttpRequest) -> Any:
        request.seen_by = type(self)  # type: ignore[attr-defined]
        return await self.get_response(request)


class Hooks(MiddlewareMixin):
    limits: dict[str, int] = {}
    lazy = SimpleLazyObject(lambda: 1 / 0)

    def process_request(self, request: HttpRequest) -> None:
        request.kind = self.name  # type: ignore[attr-defined]
        self.limits[request.path] = self.limits.get(request.path, 0) + 1

    @property
    def name(self) -> str:
        return self.title("hooks", "!")

    @staticmethod
    def title(word: str, end: str) -> str:
        return word.title() + end

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        response.closer = partial(self.title, "end")
        return response


class FromSettings(Calls):
    def __init__(self, get_response: Callable[..., Any]) -> None:
        self.get_response = get_response
        self.debug = settings.DEBUG
        self.prefix = getattr(settings, "A_PREFIX", "/")
        self.count = 0


def plain(get_response: Callable[..., Any]) -> Callable[..., Any]:
    def middleware(request: HttpRequest) -> Any:
        return get_response(request)

    return middleware


class HasTable(Calls):
    def __init__(self, get_response: Callable[..., Any]) -> None:
        self.get_response = get_response
        self.clients: dict[str, int] = {}


class HasTableOfClass(Calls):
    def __init__(self, get_response: Callable[..., Any]) -> None:
        super().__init__(get_response)
        self.clients = dict[str, int]()


class HasRegistry(Calls):
    def __init__(self, get_response: Callable[..., Any]) -> None:
        super().__init__(get_response)
        self.metrics = middleware.MADE.setdefault("metrics", 0)


class Counts(FromSettings):
    def __call__(self, request: HttpRequest) -> Any:
        self.count += 1
        return self.get_response(request)


class CountsLazily(MiddlewareMixin):
    def process_view(self, request: HttpRequest, *args: Any) -> None:
        self.count = getattr(self, "count", 0) + 1


class CountsInAProperty(Hooks):
    @property
    def name(self) -> str:
        setattr(self, "n", 1)  # noqa: B010
        return ""


class KeepsInItsDictionary(Calls):
    def __call__(self, request: HttpRequest) -> Any:
        self.__dict__[request.path] = request.path
        return self.get_response(request)


class HandsItselfOver(Calls):
    def __call__(self, request: HttpRequest) -> Any:
        request.META.update(owner=self)
        return self.get_response(request)


class KeepsBehindAnotherName(Calls):
    def __call__(self, request: HttpRequest) -> Any:
        me: Any = self
        me.last = request
        return self.get_response(request)


class KeepsInAFunctionWithin(Calls):
    def __call__(self, request: HttpRequest) -> Any:
        def keep() -> None:
            self.last = request

        keep()
        return self.get_response(request)


class Forgets(Calls):
    def __call__(self, request: HttpRequest) -> Any:
        del self.get_response
        return None


class Caches(Hooks):
    @cached_property
    def table(self) -> dict[str, int]:
        return {}


class Remembers(Hooks):
    @lru_cache  # noqa: B019
    def look_up(self, path: str) -> str:
        return path


class Inherits(Counts):
    pass


class IsNew(Calls):
    def __new__(cls, *args: Any) -> Any:
        return super().__new__(cls)


class Decorated(Calls):
    @decorator
    def __call__(self, request: HttpRequest) -> Any:
        return super().__call__(request)


class TakesAnything(Calls):
    def __call__(*args: Any) -> Any:
        return args[0].get_response(args[1])


def counts(get_response: Callable[..., Any]) -> Callable[..., Any]:
    count = 0

    def middleware(request: HttpRequest) -> Any:
        nonlocal count
        count += 1
        return get_response(request)

    return middleware


def has_table(get_response: Callable[..., Any]) -> Callable[..., Any]:
    def middleware(request: HttpRequest, clients: Any = {}) -> Any:  # noqa: B006
        return get_response(request)

    return middleware


def keeps_on_the_function(get_response: Callable[..., Any]) -> Callable[..., Any]:
    def middleware(request: HttpRequest) -> Any:
        middleware.last = request  # type: ignore[attr-defined]
        return get_response(request)

    return middleware


def registers(get_response: Callable[..., Any]) -> Callable[..., Any]:
    middleware.MADE["registers"] += 1
    return get_response


class Called:
    def __call__(self, get_response: Callable[..., Any]) -> Callable[..., Any]:
        return get_response


class PermissionsPolicy(InBothModes):
    """Stands for that of the package: it makes a header from settings, once."""

    __module__ = "django_permissions_policy"

    @cached_property
    def header(self) -> str:
        return str(getattr(settings, "PERMISSIONS_POLICY", {}))


NOTHING = [
    Calls,
    InBothModes,
    Hooks,
    FromSettings,
    MiddlewareMixin,
    LocaleMiddleware,
    plain,
    Proxy(plain, None),
    Proxy(Hooks, None),
    middleware.plain_both,
    PermissionsPolicy,
]
SOMETHING = [
    HasTable,
    HasTableOfClass,
    Counts,
    CountsLazily,
    CountsInAProperty,
    KeepsInItsDictionary,
    HandsItselfOver,
    KeepsBehindAnotherName,
    KeepsInAFunctionWithin,
    Forgets,
    Caches,
    Remembers,
    Inherits,
    IsNew,
    Decorated,
    TakesAnything,
    counts,
    has_table,
    keeps_on_the_function,
    registers,
    partial(plain),
    Called(),
    Proxy(Counts, None),
]


def name(factory: Any) -> str:
    """Return what a case is known by."""
    kind = type(factory)
    own = getattr(factory, "__name__", "")
    return own if kind in (type, FunctionType) else f"{kind.__name__} {own}"


@pytest.mark.parametrize("factory", NOTHING, ids=name)
def test_two_are_as_good_as_one(factory: Any) -> None:
    assert keeps_nothing(factory)


@pytest.mark.parametrize("package", ["django_guid", "django_prometheus"])
def test_what_all_instances_share_does_not_count(package: str) -> None:
    members = {"__init__": HasRegistry.__init__}
    theirs = type("Metrics", (Calls,), {**members, "__module__": f"{package}.of"})
    others = type("Metrics", (Calls,), {**members, "__module__": f"{package}s"})

    assert keeps_nothing(theirs)
    assert not keeps_nothing(others)


@pytest.mark.parametrize("factory", SOMETHING, ids=name)
def test_there_must_be_one(factory: Any) -> None:
    assert not keeps_nothing(factory)


class Base:
    total = 0

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response


class KeepsSums(Base):
    def note(self, request: Any) -> None:
        self.total += 1
        self.last = self.total + 1
        self.table: dict[str, int] = {}
        self.table[request.path] = 1
        request.seen_by = self.total


class NotesAnArgument(Base):
    def note(self, mode: bool) -> None:
        self.mode = mode


class NotesAResult(Base):
    def note(self) -> None:
        self.mode = callable(self.get_response)


class NotesTwo(Base):
    def note(self, mode: bool) -> None:
        self.known, self.mode = True, mode


class NotesByAnotherName(Base):
    def note(self, mode: bool) -> None:
        other: Any = self
        other.mode = mode


class NotesInside(Base):
    def note(self, mode: bool) -> None:
        def inside() -> None:
            self.mode = mode

        inside()


class NotesByName(Base):
    def note(self, mode: bool) -> None:
        setattr(self, "mode", mode)  # noqa: B010


class NotesWhenAsked(Base):
    @cached_property
    def mode(self) -> bool:
        return callable(self.get_response)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Base, True),
        (KeepsSums, True),
        (NotesAnArgument, False),
        (NotesAResult, False),
        (NotesTwo, False),
        (NotesByAnotherName, False),
        (NotesInside, False),
        (NotesByName, False),
        (NotesWhenAsked, False),
    ],
)
def test_what_could_tell_the_mode_of_an_instance(kind: type, expected: bool) -> None:
    assert notes_no_mode(kind) is expected
