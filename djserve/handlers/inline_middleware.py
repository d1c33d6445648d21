"""Django's own middleware hooks that are safe to run on the event loop, and when.

A hook is safe if it does no I/O, waits for nothing and runs no code of the project.
The table holds exact classes: a subclass may do anything, so it goes to a thread. The
sources that were read to write it are pinned by
``tests/handlers/test_inline_middleware.py``; a Django release that changes one of them
fails there and must be read again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from django.http import HttpRequest, HttpResponseBase

from djserve.handlers.patches import is_original_method
from djserve.handlers.runtime import read_setting

RequestRule: TypeAlias = Callable[[HttpRequest], bool]
ViewRule: TypeAlias = Callable[[HttpRequest, Callable[..., Any]], bool]
ResponseRule: TypeAlias = Callable[[HttpRequest, HttpResponseBase], bool]


class InlineRules(NamedTuple):
    """For each hook: whether this call of it may run on the loop. None: never.

    ``reason`` says why, for the documentation and for the reader of a failing pin.
    """

    reason: str
    request: RequestRule | None = None
    view: ViewRule | None = None
    response: ResponseRule | None = None


NEVER = InlineRules("not in the table")

_CACHE_ENGINES = (
    "django.contrib.sessions.backends.cache",
    "django.contrib.sessions.backends.cached_db",
)
_SESSION_ENGINES = (
    *_CACHE_ENGINES,
    "django.contrib.sessions.backends.db",
    "django.contrib.sessions.backends.file",
    "django.contrib.sessions.backends.signed_cookies",
)
_MESSAGE_STORAGES = (
    "django.contrib.messages.storage.cookie.CookieStorage",
    "django.contrib.messages.storage.fallback.FallbackStorage",
    "django.contrib.messages.storage.session.SessionStorage",
)
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")


def ALWAYS(*args: object) -> bool:
    """The rule of hooks that never need a thread."""
    return True


def _makes_known_session(request: HttpRequest) -> bool:
    if read_setting("SESSION_ENGINE") in _CACHE_ENGINES:
        backend = read_setting("CACHES")[read_setting("SESSION_CACHE_ALIAS")]["BACKEND"]
        return isinstance(backend, str) and backend.startswith("django.core.cache.")
    return read_setting("SESSION_ENGINE") in _SESSION_ENGINES


def _leaves_session_alone(request: HttpRequest, response: HttpResponseBase) -> bool:
    session = getattr(request, "session", None)
    if session is None:
        return True
    return (
        type(session).__module__ in _SESSION_ENGINES
        and not session.modified
        and not read_setting("SESSION_SAVE_EVERY_REQUEST")
    )


def _resolves_no_url(request: HttpRequest) -> bool:
    return not read_setting("PREPEND_WWW")


def _looks_for_no_slash(request: HttpRequest, response: HttpResponseBase) -> bool:
    return response.status_code != 404 or not read_setting("APPEND_SLASH")


def _keeps_token_in_cookie(*args: object) -> bool:
    return not read_setting("CSRF_USE_SESSIONS")


def _checks_no_token(request: HttpRequest, view: Callable[..., Any]) -> bool:
    return (
        request.method in _SAFE_METHODS
        or getattr(view, "csrf_exempt", False)
        or getattr(request, "csrf_processing_done", False)
    )


def _makes_known_messages(request: HttpRequest) -> bool:
    return read_setting("MESSAGE_STORAGE") in _MESSAGE_STORAGES


def _stores_no_messages(request: HttpRequest, response: HttpResponseBase) -> bool:
    messages = getattr(request, "_messages", None)
    return messages is None or not (messages.used or messages.added_new)


# By name: importing them all would need apps that the project may not have installed.
TABLE: Mapping[str, InlineRules] = {
    "django.middleware.security.SecurityMiddleware": InlineRules(
        "compares the request's own fields and sets response fields",
        request=ALWAYS,
        response=ALWAYS,
    ),
    "django.contrib.sessions.middleware.SessionMiddleware": InlineRules(
        "makes a session object that loads nothing until it is used; goes to a thread "
        "if the session is to be saved, or the engine or its cache is not Django's",
        request=_makes_known_session,
        response=_leaves_session_alone,
    ),
    "django.middleware.common.CommonMiddleware": InlineRules(
        "compares request fields and sets Content-Length; goes to a thread if it "
        "resolves a URL (PREPEND_WWW, or a 404 under APPEND_SLASH), since converters "
        "are the project's code",
        request=_resolves_no_url,
        response=_looks_for_no_slash,
    ),
    "django.middleware.csrf.CsrfViewMiddleware": InlineRules(
        "reads and sets a cookie; goes to a thread if it reads the request's "
        "content, calls the failure view or keeps the token in the session",
        request=_keeps_token_in_cookie,
        view=_checks_no_token,
        response=_keeps_token_in_cookie,
    ),
    "django.contrib.auth.middleware.AuthenticationMiddleware": InlineRules(
        "sets a lazy user, which is loaded when it is used",
        request=ALWAYS,
    ),
    "django.contrib.messages.middleware.MessageMiddleware": InlineRules(
        "makes a storage that loads nothing until it is used; goes to a thread if "
        "messages were read or added, or the storage is not Django's",
        request=_makes_known_messages,
        response=_stores_no_messages,
    ),
    "django.middleware.clickjacking.XFrameOptionsMiddleware": InlineRules(
        "sets a response field",
        response=ALWAYS,
    ),
    "django.middleware.csp.ContentSecurityPolicyMiddleware": InlineRules(
        "makes a lazy nonce and sets response fields from settings",
        request=ALWAYS,
        response=ALWAYS,
    ),
}


def rules_for(middleware: object) -> InlineRules:
    """Return the rules for a middleware instance, by its exact class.

    A hook that is not as Django's source defines it (an agent has replaced it) is not
    in the table.
    """
    kind = type(middleware)
    rules = TABLE.get(f"{kind.__module__}.{kind.__qualname__}", NEVER)
    if rules is NEVER:
        return NEVER
    replaced: dict[str, Any] = {
        field: None
        for field in ("request", "view", "response")
        if getattr(rules, field) is not None
        and not _is_as_written(middleware, f"process_{field}")
    }
    return rules._replace(**replaced)


def _is_as_written(middleware: object, name: str) -> bool:
    return name not in vars(middleware) and is_original_method(type(middleware), name)
