"""Whether anything in a project would read a request's content.

Large content is received before the view runs. If Django is going to answer 404 or 405
whatever it is, it need not be kept. In doubt it is: the answer must stay the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.urls import Resolver404, get_resolver
from django.views import View, defaults
from django.views.decorators.csrf import csrf_exempt

from djserve.handlers.routing import Route, lookup_of, path_info

if TYPE_CHECKING:
    from djserve.asgi.types import Scope

_CSRF = "django.middleware.csrf.CsrfViewMiddleware"
_CSRF_FAILURE = "django.views.csrf.csrf_failure"

_BLIND_PACKAGES = frozenset({"corsheaders", "django", "whitenoise"})
"""Packages whose middleware reads no content, but for CSRF's, and changes no URLs."""


def _code_of(view: Any) -> Any:
    return getattr(view, "__code__", None)


_EXEMPTING = frozenset({_code_of(csrf_exempt(lambda request: None))})
"""What stands around a view that the check against CSRF is turned off for."""


def may_be_read(scope: Scope, route: Route | None) -> bool:
    """Return whether the content may matter; ``route`` is what was found for it."""
    if any(path.partition(".")[0] not in _BLIND_PACKAGES for path in _middleware()):
        return True
    if route is None:
        return not _is_missing(scope)
    return not (_is_refused(scope["method"], route) and not _reads_token(scope, route))


def _middleware() -> list[str]:
    return list(settings.MIDDLEWARE)


def _is_missing(scope: Scope) -> bool:
    """Return whether the path leads nowhere, in any language, and gets Django's 404."""
    try:
        resolver = get_resolver(settings.ROOT_URLCONF)
        if lookup_of(resolver).follows_language:
            return False
        resolver.resolve(path_info(scope))
    except Resolver404:
        handler: Any = resolver.resolve_error_handler(404)
        return handler is defaults.page_not_found
    except Exception:
        # Django comes to the same point later and knows how to answer.
        return False
    return False


def _is_refused(method: str, route: Route) -> bool:
    """Return whether the view is a class that has no such method, and nothing else."""
    view: Any = route.match.func
    while _code_of(view) in _EXEMPTING:
        view = view.__wrapped__
    view_class = getattr(view, "view_class", None)
    if (
        # A decorator may read content before the class is asked.
        hasattr(view, "__wrapped__")
        or not isinstance(view_class, type)
        or not issubclass(view_class, View)
        or view_class.dispatch is not View.dispatch
        or view_class.setup is not View.setup
        or view_class.http_method_not_allowed is not View.http_method_not_allowed
    ):
        return False
    name = method.lower()
    names = view.view_initkwargs.get("http_method_names", view_class.http_method_names)
    return name not in names or not hasattr(view_class, name)


def _reads_token(scope: Scope, route: Route) -> bool:
    """Return whether the check against CSRF may look into the form, before the view."""
    if _CSRF not in _middleware() or getattr(route.match.func, "csrf_exempt", False):
        return False
    if settings.CSRF_USE_SESSIONS or settings.CSRF_FAILURE_VIEW != _CSRF_FAILURE:
        return True
    # Without the cookie it refuses at once.
    cookie = settings.CSRF_COOKIE_NAME.encode()
    return any(
        name == b"cookie" and cookie in value for name, value in scope["headers"]
    )
