"""The view of a request, looked up before the request is made, to choose its lane.

The lane is about speed only: each gives the right answer for either kind of view. So a
middleware may change the URL configuration or the path; then Django resolves again.
"""

# Why a path is resolved before Django does it
#
# Whether a view is asynchronous decides the way of a request: on the loop, or through a
# thread. Django finds that out after the middleware, when the way has been taken. So
# the path is looked up first, and the match is left with the request, for Django to use
# where it would have resolved again. That makes the look-up free, but two things must
# hold.
#
# The match must be the one that Django would find. ``reusable_match`` compares all that
# a resolution depends on: the path, the URL configuration (a setting, or the request's
# own), the language if patterns may be translated, and the identity of Django's methods
# together with their code, since agents replace either. If anything differs, the match
# is dropped, Django resolves again, and only time is lost. The lane stays as chosen,
# and both lanes run either kind of view.
#
# The match must have been found at the right time. Converters and kinds of patterns
# that are the project's may look at anything: a tenant or a user that a middleware has
# set, the database. So if the URLs have such, Django resolves the path itself, once and
# after the middleware, and what is looked up here is the view alone, without asking a
# converter (``Lookup.find_view``).
#
# The match must be the request's own. Matches are remembered for each path, but only of
# URL configurations that consist of Django's own kinds with plain text and Django's own
# converters (``_is_fixed``): the result then depends on nothing but the path. A view,
# or a middleware in ``process_view``, may change its arguments, so a remembered match
# is copied with its dictionaries and lists before it is handed out.
#
# An error here is no error yet. The look-up may fail for a path that a middleware will
# change, or because the import of a view fails. It returns None, and Django comes to
# the same point later, with its own handling of 404 and of exceptions.

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.urls import (
    Resolver404,
    ResolverMatch,
    URLPattern,
    URLResolver,
    get_resolver,
)
from django.urls.resolvers import LocalePrefixPattern, RegexPattern, RoutePattern
from django.utils.translation import get_language

from djserve.handlers.patches import is_original_method
from djserve.handlers.runtime import read_setting

if TYPE_CHECKING:
    from djserve.asgi.types import Scope

ATTRIBUTE = "_djserve_route"
LOOKUP = "_djserve_lookup"

_RESOLVE, _RESOLVE_PATTERN = URLResolver.resolve, URLPattern.resolve
_INIT_MATCH = ResolverMatch.__init__
# Some agents replace the code inside of a function.
_RESOLVE_CODE, _RESOLVE_PATTERN_CODE, _INIT_MATCH_CODE = (
    getattr(method, "__code__", None)
    for method in (_RESOLVE, _RESOLVE_PATTERN, _INIT_MATCH)
)
_IS_ORIGINAL = all(
    is_original_method(owner, name)
    for owner, name in (
        (URLResolver, "resolve"),
        (URLPattern, "resolve"),
        (ResolverMatch, "__init__"),
    )
)

MEMORY = 1024
"""Paths of which each resolver remembers the views."""


class Route(NamedTuple):
    """What a path was resolved to, and what the resolution depended on.

    ``language`` is None if the URLs are the same in all languages. ``is_shared``
    says that other requests have the same match; ``is_view_alone`` that the match has
    the view and nothing else, and that another view may answer in the end.
    """

    match: ResolverMatch
    path_info: str
    urlconf: Any
    language: tuple[str | None] | None
    is_shared: bool
    is_view_alone: bool = False

    @property
    def is_async(self) -> bool:
        view = self.match.func
        try:
            return _is_async(view)
        except TypeError:
            # A view that is a callable object without a hash.
            return iscoroutinefunction(view)


UNRESOLVED = "(no view)"


def view_of(route: Route | None) -> tuple[Hashable, str]:
    """Return what the calls of a route's view are known by, and the view's name."""
    if route is None:
        return UNRESOLVED, UNRESOLVED
    view, name = route.match.func, route.match._func_path
    try:
        hash(view)
    except TypeError:
        return id(view), name
    return view, name


async def find_route(scope: Scope) -> Route | None:
    """Resolve the path of a scope; None if that fails, for whatever reason."""
    if urls_are_imported():
        return resolve_route(scope)
    # The first request imports the project's views: nothing for the loop.
    return await asyncio.to_thread(resolve_route, scope)


def urls_are_imported() -> bool:
    """Whether ``resolve_route`` imports nothing."""
    urlconf: Any = read_setting("ROOT_URLCONF")
    return not isinstance(urlconf, str) or urlconf in sys.modules


def resolve_route(scope: Scope) -> Route | None:
    """Do what ``find_route`` does, in this thread."""
    path, urlconf = path_info(scope), read_setting("ROOT_URLCONF")
    try:
        lookup = lookup_of(get_resolver(urlconf))
        if not lookup.is_djangos:
            plain = lookup.resolve_plainly(path)
            if plain is None:
                return Route(lookup.find_view(path), path, urlconf, None, False, True)
            return Route(plain, path, urlconf, None, True)
        match = lookup.resolve(path)
        language = (get_language(),) if lookup.follows_language else None
    except Exception:
        # Not found, or a converter or the import of a view failed. Django comes to
        # the same point later and knows how to answer.
        return None
    return Route(match, path, urlconf, language, lookup.is_fixed)


def resolve_without_project(scope: Scope) -> ResolverMatch | None:
    """Return the match of a scope's path if no code of the project is needed for it."""
    urlconf: Any = read_setting("ROOT_URLCONF")
    if not isinstance(urlconf, str) or urlconf not in sys.modules:
        return None
    lookup = lookup_of(get_resolver(urlconf))
    if not lookup.is_fixed:
        return None
    try:
        return lookup.resolve(path_info(scope))
    except Resolver404:
        return None


def attach_route(request: HttpRequest, route: Route | None) -> None:
    """Leave a route with its request, for ``reusable_match``.

    Django's request takes FORCE_SCRIPT_NAME off within a name as well: "/app" off
    "/application/" leaves "lication/", and another view may answer. Here it ends at a
    slash. And behind a proxy that has taken it off already, ``request.path`` has it all
    the same, as under WSGI: Django's redirects are made from it.
    """
    prefix = read_setting("FORCE_SCRIPT_NAME")
    if prefix:
        path_info = _take_off(prefix, request.path)
        request.path_info = request.META["PATH_INFO"] = path_info
        if path_info == request.path:
            request.path = prefix.rstrip("/") + path_info
    setattr(request, ATTRIBUTE, route)


def reusable_match(request: HttpRequest) -> ResolverMatch | None:
    """Return the match that was found before, if the request would find it again.

    It is the request's own, handed out once: views may change its arguments. None if
    an agent has replaced what resolves paths: it names its records there, or wraps the
    view, in the surroundings of each request (New Relic).
    """
    route: Route | None = request.__dict__.pop(ATTRIBUTE, None)
    if (
        route is None
        or route.is_view_alone
        or not _IS_ORIGINAL
        or URLResolver.resolve is not _RESOLVE
        or URLPattern.resolve is not _RESOLVE_PATTERN
        or ResolverMatch.__init__ is not _INIT_MATCH
        or _RESOLVE.__code__ is not _RESOLVE_CODE
        or _RESOLVE_PATTERN.__code__ is not _RESOLVE_PATTERN_CODE
        or _INIT_MATCH.__code__ is not _INIT_MATCH_CODE
        or hasattr(request, "urlconf")
        or request.path_info != route.path_info
        or route.urlconf != read_setting("ROOT_URLCONF")
        or (route.language is not None and (get_language(),) != route.language)
    ):
        return None
    return _copy(route.match) if route.is_shared else route.match


@lru_cache(maxsize=4096)
def _is_async(view: Any) -> bool:
    return iscoroutinefunction(view)


class Lookup:
    """How the paths of one resolver are looked up, and on what that depends."""

    def __init__(self, resolver: URLResolver) -> None:
        self.is_fixed = _is_fixed(resolver)
        self.is_djangos = self.is_fixed or _is_djangos(resolver)
        """Whether a path's match depends on nothing but the language, if on that."""
        self._resolver = resolver
        self._converted: set[int] = set()
        self.resolve: Callable[[str], ResolverMatch] = resolver.resolve
        """Returns the match of a path, a remembered one if the URLs are fixed."""
        if self.is_fixed:
            # The patterns are tried one after the other: a path is, once.
            self.resolve = lru_cache(maxsize=MEMORY)(resolver.resolve)
        self.resolve_plainly = lru_cache(maxsize=MEMORY)(self._resolve_plainly)
        """Returns the match of a path that nothing of the project's had a say in."""

    def _resolve_plainly(self, path: str) -> ResolverMatch | None:
        search = _Search()
        search.find(self._resolver, path)
        return None if search.met_project else self._resolver.resolve(path)

    def find_view(self, path: str) -> ResolverMatch:
        """Return a match with the view of a path, without the project's converters.

        With them if it is asynchronous, until they have been seen to work on the loop.
        One that asks the database does not: the view then has no route, and is called
        from a thread in which it may be asked. Raises what they raise, and Resolver404.
        """
        view = _Search().find(self._resolver, path)
        if view is None:
            raise Resolver404({"path": path})
        if iscoroutinefunction(view) and id(view) not in self._converted:
            self._resolver.resolve(path)
            self._converted.add(id(view))
        return ResolverMatch(view, (), {})

    @property
    def follows_language(self) -> bool:
        """Whether prefixes or patterns may be translated.

        Asking for the language costs as much as a resolution.
        """
        return not self.is_fixed and read_setting("USE_I18N")


def lookup_of(resolver: URLResolver) -> Lookup:
    """Return the lookup of a resolver, which lives and ends with it."""
    lookup: Lookup | None = resolver.__dict__.get(LOOKUP)
    if lookup is None:
        lookup = Lookup(resolver)
        setattr(resolver, LOOKUP, lookup)
    return lookup


def _copy(match: ResolverMatch) -> ResolverMatch:
    """Return a match with its own arguments, for views and middleware to change."""
    copied = ResolverMatch.__new__(ResolverMatch)
    fields = copied.__dict__
    fields.update(match.__dict__)
    for name in ("kwargs", "captured_kwargs", "extra_kwargs"):
        fields[name] = {**fields[name]}
    for name in ("app_names", "namespaces"):
        fields[name] = [*fields[name]]
    return copied


def _is_fixed(entry: URLPattern | URLResolver) -> bool:
    """Whether an entry, and all below it, are Django's own kinds with plain text."""
    if type(entry) not in (URLPattern, URLResolver):
        return False
    # A converter of the project may look at anything.
    if _asks_project(entry.pattern) or not _has_plain_text(entry.pattern):
        return False
    return isinstance(entry, URLPattern) or all(map(_is_fixed, entry.url_patterns))


def _has_plain_text(pattern: Any) -> bool:
    """Whether the text of a pattern is the same in all languages."""
    name = {RegexPattern: "_regex", RoutePattern: "_route"}.get(type(pattern))
    return name is not None and isinstance(getattr(pattern, name), str)


_DJANGOS_PATTERNS = (RegexPattern, RoutePattern, LocalePrefixPattern)


def _is_djangos(entry: URLPattern | URLResolver) -> bool:
    """Whether an entry, and all below it, are Django's own kinds and converters."""
    if type(entry) not in (URLPattern, URLResolver) or _asks_project(entry.pattern):
        return False
    return isinstance(entry, URLPattern) or all(map(_is_djangos, entry.url_patterns))


def _asks_project(pattern: Any) -> bool:
    return type(pattern) not in _DJANGOS_PATTERNS or any(
        map(_is_foreign, pattern.converters.values())
    )


class _Search:
    """Looks for a path's view as Django does, without the project's converters.

    ``met_project`` tells whether a kind of pattern or a converter of the project's, or
    a text that is translated, had a say in what was found.
    """

    def __init__(self) -> None:
        self.met_project = False

    def find(self, entry: Any, path: str) -> Callable[..., Any] | None:
        """Return the view that an entry leads to; None if it does not match."""
        if type(entry) not in (URLPattern, URLResolver):
            return self._ask(entry, path)
        rest = self._match(entry.pattern, path)
        if rest is None:
            return None
        if isinstance(entry, URLPattern):
            view: Callable[..., Any] = entry.callback
            return view
        found = (self.find(child, rest) for child in entry.url_patterns)
        return next((view for view in found if view is not None), None)

    def _ask(self, entry: Any, path: str) -> Callable[..., Any] | None:
        self.met_project = True
        try:
            match = entry.resolve(path)
        except Resolver404:
            return None
        return match.func if match else None

    def _match(self, pattern: Any, path: str) -> str | None:
        """Return what of a path is left below a pattern; None if it does not match."""
        if not _asks_project(pattern):
            self.met_project = self.met_project or not _has_plain_text(pattern)
            match = pattern.match(path)
            return match[0] if match else None
        if type(pattern) is not RoutePattern:
            self.met_project = True
            match = pattern.match(path)
            return match[0] if match else None
        found = pattern.regex.search(path)
        if found is None:
            return None
        self.met_project = True
        return path[found.end() :]


def _is_foreign(converter: object) -> bool:
    return type(converter).__module__ != "django.urls.converters"


def path_info(scope: Scope) -> str:
    """Return the path below the application's mount point."""
    path: str = scope["path"]
    prefix = script_prefix(scope)
    return _take_off(prefix, path) if prefix else path


def script_prefix(scope: Scope) -> str:
    """Return the application's mount point, as Django's ``get_script_prefix``."""
    prefix: str = read_setting("FORCE_SCRIPT_NAME") or scope.get("root_path", "")
    return prefix or ""


def _take_off(prefix: str, path: str) -> str:
    """Return a path without the prefix that it is mounted under."""
    prefix = prefix.rstrip("/")
    rest = path.removeprefix(prefix)
    return rest if not rest or rest.startswith("/") else path
