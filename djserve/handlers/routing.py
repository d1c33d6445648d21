"""The view of a request, looked up before the request is made, to choose its lane.

The lane is about speed only: each gives the right answer for either kind of view. So a
middleware may change the URL configuration or the path; then Django resolves again.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.handlers.asgi import get_script_prefix
from django.http import HttpRequest
from django.urls import ResolverMatch, get_resolver
from django.utils.translation import get_language

if TYPE_CHECKING:
    from djserve.asgi.types import Scope

ATTRIBUTE = "_djserve_route"


class Route(NamedTuple):
    """What a path was resolved to, and what the resolution depended on."""

    match: ResolverMatch
    path_info: str
    urlconf: Any
    language: str | None

    @property
    def is_async(self) -> bool:
        return iscoroutinefunction(self.match.func)


async def find_route(scope: Scope) -> Route | None:
    """Resolve the path of a scope; None where that fails, for whatever reason."""
    urlconf: Any = settings.ROOT_URLCONF
    if isinstance(urlconf, str) and urlconf not in sys.modules:
        # The first request imports the project's views: nothing for the loop.
        return await asyncio.to_thread(_resolve, scope)
    return _resolve(scope)


def attach_route(request: HttpRequest, route: Route | None) -> None:
    """Leave a route with its request, for ``reusable_match``."""
    setattr(request, ATTRIBUTE, route)


def reusable_match(request: HttpRequest) -> ResolverMatch | None:
    """Return the match that was found before, if the request would find it again.

    It is handed out once: views may change its keyword arguments.
    """
    route: Route | None = request.__dict__.pop(ATTRIBUTE, None)
    if (
        route is None
        or hasattr(request, "urlconf")
        or request.path_info != route.path_info
        or route.urlconf != settings.ROOT_URLCONF
        # Prefixes and patterns may be translated.
        or (settings.USE_I18N and get_language() != route.language)
    ):
        return None
    return route.match


def _resolve(scope: Scope) -> Route | None:
    path = _path_info(scope)
    urlconf = settings.ROOT_URLCONF
    language = get_language() if settings.USE_I18N else None
    try:
        match = get_resolver(urlconf).resolve(path)
    except Exception:
        # Not found, or a converter or the import of a view failed. Django comes to
        # the same point later and knows how to answer.
        return None
    return Route(match, path, urlconf, language)


def _path_info(scope: Scope) -> str:
    path: str = scope["path"]
    prefix = get_script_prefix(scope)
    return path.removeprefix(prefix.rstrip("/")) if prefix else path
