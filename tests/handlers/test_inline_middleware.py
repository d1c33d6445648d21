"""The table of hooks that run on the loop: pinned to the sources that were read."""

from __future__ import annotations

import hashlib
import inspect
from typing import Any

import django
import pytest
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.messages.storage.base import BaseStorage
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpResponse
from django.middleware.common import CommonMiddleware
from django.middleware.csrf import CsrfViewMiddleware
from django.test import RequestFactory, override_settings
from django.utils.deprecation import MiddlewareMixin
from django.utils.module_loading import import_string

from djserve.handlers.inline_middleware import NEVER, TABLE, rules_for

READ = {
    "django.contrib.auth.middleware:AuthenticationMiddleware.process_request": {
        "5.2": "6dd39b90ad6373e2",
        "6.0": "6dd39b90ad6373e2",
        "6.1": "6dd39b90ad6373e2",
    },
    "django.contrib.messages.middleware:MessageMiddleware.process_request": {
        "5.2": "7f4834ba26ee0583",
        "6.0": "7f4834ba26ee0583",
        "6.1": "7f4834ba26ee0583",
    },
    "django.contrib.messages.middleware:MessageMiddleware.process_response": {
        "5.2": "04469c9493c90e26",
        "6.0": "04469c9493c90e26",
        "6.1": "04469c9493c90e26",
    },
    "django.contrib.messages.storage.base:BaseStorage.__init__": {
        "5.2": "cc6e74277a3ea532",
        "6.0": "cc6e74277a3ea532",
        "6.1": "cc6e74277a3ea532",
    },
    "django.contrib.messages.storage.base:BaseStorage.update": {
        "5.2": "3db9589128339b47",
        "6.0": "3db9589128339b47",
        "6.1": "3db9589128339b47",
    },
    "django.contrib.messages.storage.fallback:FallbackStorage.__init__": {
        "5.2": "fb57faebed1727f0",
        "6.0": "fb57faebed1727f0",
        "6.1": "fb57faebed1727f0",
    },
    "django.contrib.messages.storage.session:SessionStorage.__init__": {
        "5.2": "846de48efc69bf4a",
        "6.0": "846de48efc69bf4a",
        "6.1": "846de48efc69bf4a",
    },
    "django.contrib.sessions.backends.base:SessionBase.__init__": {
        "5.2": "f78360c7a64901af",
        "6.0": "f78360c7a64901af",
        "6.1": "f78360c7a64901af",
    },
    "django.contrib.sessions.backends.base:SessionBase.is_empty": {
        "5.2": "5b67db5dbc02d775",
        "6.0": "5b67db5dbc02d775",
        "6.1": "5b67db5dbc02d775",
    },
    "django.contrib.sessions.backends.cache:SessionStore.__init__": {
        "5.2": "55c4ac4df0f8d68f",
        "6.0": "55c4ac4df0f8d68f",
        "6.1": "55c4ac4df0f8d68f",
    },
    "django.contrib.sessions.backends.cached_db:SessionStore.__init__": {
        "5.2": "55c4ac4df0f8d68f",
        "6.0": "55c4ac4df0f8d68f",
        "6.1": "55c4ac4df0f8d68f",
    },
    "django.contrib.sessions.backends.db:SessionStore.__init__": {
        "5.2": "0cbd3599a781a124",
        "6.0": "0cbd3599a781a124",
        "6.1": "0cbd3599a781a124",
    },
    "django.contrib.sessions.backends.file:SessionStore.__init__": {
        "5.2": "a5af31b6f9764a15",
        "6.0": "a5af31b6f9764a15",
        "6.1": "a5af31b6f9764a15",
    },
    "django.contrib.sessions.middleware:SessionMiddleware.process_request": {
        "5.2": "6782d24847e4a926",
        "6.0": "6782d24847e4a926",
        "6.1": "6782d24847e4a926",
    },
    "django.contrib.sessions.middleware:SessionMiddleware.process_response": {
        "5.2": "fbaf5503c20d7dd0",
        "6.0": "fbaf5503c20d7dd0",
        "6.1": "fbaf5503c20d7dd0",
    },
    "django.middleware.clickjacking:XFrameOptionsMiddleware.get_xframe_options_value": {
        "5.2": "c7560b514b0dfbe6",
        "6.0": "c7560b514b0dfbe6",
        "6.1": "c7560b514b0dfbe6",
    },
    "django.middleware.clickjacking:XFrameOptionsMiddleware.process_response": {
        "5.2": "045e5788270860c6",
        "6.0": "045e5788270860c6",
        "6.1": "045e5788270860c6",
    },
    "django.middleware.common:CommonMiddleware.process_request": {
        "5.2": "993f4d1f2084e01e",
        "6.0": "993f4d1f2084e01e",
        "6.1": "993f4d1f2084e01e",
    },
    "django.middleware.common:CommonMiddleware.process_response": {
        "5.2": "eb5ad294e9fbda9b",
        "6.0": "79ae386a55710a08",
        "6.1": "79ae386a55710a08",
    },
    "django.middleware.csp:ContentSecurityPolicyMiddleware.process_request": {
        "6.0": "3d9f5a4a02a3bf63",
        "6.1": "3d9f5a4a02a3bf63",
    },
    "django.middleware.csp:ContentSecurityPolicyMiddleware.process_response": {
        "6.0": "1be74a3834c7ceb1",
        "6.1": "1be74a3834c7ceb1",
    },
    "django.middleware.csrf:CsrfViewMiddleware._accept": {
        "5.2": "86f55d82d8d1dc78",
        "6.0": "98c9bc10b4e33af2",
        "6.1": "98c9bc10b4e33af2",
    },
    "django.middleware.csrf:CsrfViewMiddleware._get_secret": {
        "5.2": "b3a608af97a839cc",
        "6.0": "b3a608af97a839cc",
        "6.1": "b3a608af97a839cc",
    },
    "django.middleware.csrf:CsrfViewMiddleware._set_csrf_cookie": {
        "5.2": "9a6a31d8aa8df47a",
        "6.0": "9a6a31d8aa8df47a",
        "6.1": "9a6a31d8aa8df47a",
    },
    "django.middleware.csrf:CsrfViewMiddleware.process_request": {
        "5.2": "9aec8dfd81c88a56",
        "6.0": "9aec8dfd81c88a56",
        "6.1": "9aec8dfd81c88a56",
    },
    "django.middleware.csrf:CsrfViewMiddleware.process_response": {
        "5.2": "9fe1054c0f64b37f",
        "6.0": "9fe1054c0f64b37f",
        "6.1": "9fe1054c0f64b37f",
    },
    "django.middleware.csrf:CsrfViewMiddleware.process_view": {
        "5.2": "cdbdabe04318fc2f",
        "6.0": "912b151aa62a145e",
        "6.1": "912b151aa62a145e",
    },
    "django.middleware.security:SecurityMiddleware.process_request": {
        "5.2": "3373d262748cbe3e",
        "6.0": "3373d262748cbe3e",
        "6.1": "3373d262748cbe3e",
    },
    "django.middleware.security:SecurityMiddleware.process_response": {
        "5.2": "3822bd0d5f79f4a3",
        "6.0": "3822bd0d5f79f4a3",
        "6.1": "3822bd0d5f79f4a3",
    },
    "django.utils.deprecation:MiddlewareMixin.__acall__": {
        "5.2": "adf8cbcaf9f11e45",
        "6.0": "adf8cbcaf9f11e45",
        "6.1": "adf8cbcaf9f11e45",
    },
    "django.utils.deprecation:MiddlewareMixin.__call__": {
        "5.2": "337be048dd62e014",
        "6.0": "337be048dd62e014",
        "6.1": "337be048dd62e014",
    },
}
"""A digest of each source that the table relies on, for each release that was read."""


def digest_of(path: str) -> str:
    """Return a digest of a method's or function's source."""
    module, name = path.split(":")
    target: Any = import_string(f"{module}.{name.split('.')[0]}")
    for attribute in name.split(".")[1:]:
        target = inspect.getattr_static(target, attribute)
    target = getattr(target, "func", target)
    source = inspect.getsource(target)
    return hashlib.sha256(source.encode()).hexdigest()[:16]


@pytest.mark.parametrize("path", sorted(READ))
def test_source_is_one_that_was_read(path: str) -> None:
    release = f"{django.VERSION[0]}.{django.VERSION[1]}"
    if path.startswith("django.middleware.csp") and release == "5.2":
        pytest.skip("Django 5.2 has no such middleware")
    known = READ[path].get(release)

    assert digest_of(path) == known, f"{path} has changed: read it, then its rule"


def test_each_hook_of_the_table_is_pinned() -> None:
    hooks = {
        f"{name.rpartition('.')[0]}:{name.rpartition('.')[2]}.process_{hook}"
        for name, rules in TABLE.items()
        for hook in ("request", "view", "response")
        if getattr(rules, hook) is not None
    }

    assert hooks <= set(READ)


def test_each_entry_says_why_it_is_safe() -> None:
    assert all(len(rules.reason) > 15 for rules in TABLE.values())


def make(middleware: Any) -> Any:
    return middleware(lambda request: HttpResponse())


def test_exact_class_is_in_the_table() -> None:
    assert rules_for(make(CommonMiddleware)) is not NEVER


def test_subclass_is_not_in_the_table() -> None:
    class Subclass(CommonMiddleware):
        pass

    assert rules_for(make(Subclass)) is NEVER


def test_middleware_of_the_project_is_not_in_the_table() -> None:
    assert rules_for(make(MiddlewareMixin)) is NEVER


def request_rule(middleware: Any) -> bool:
    rule = rules_for(make(middleware)).request
    assert rule is not None
    return rule(RequestFactory().get("/"))


def response_rule(middleware: Any, response: HttpResponse, **attributes: Any) -> bool:
    rule = rules_for(make(middleware)).response
    request = RequestFactory().get("/")
    vars(request).update(attributes)
    assert rule is not None
    return rule(request, response)


@pytest.mark.parametrize(
    ("engine", "backend", "inline"),
    [
        ("django.contrib.sessions.backends.db", "x", True),
        (
            "django.contrib.sessions.backends.cache",
            "django.core.cache.backends.locmem.LocMemCache",
            True,
        ),
        ("django.contrib.sessions.backends.cache", "project.Cache", False),
        ("project.sessions", "x", False),
    ],
)
def test_session_is_made_on_the_loop_for_known_engines(
    engine: str, backend: str, inline: bool
) -> None:
    with override_settings(
        SESSION_ENGINE="django.contrib.sessions.backends.db",
        CACHES={"default": {"BACKEND": backend}},
    ):
        middleware = make(SessionMiddleware)
    with override_settings(
        SESSION_ENGINE=engine, CACHES={"default": {"BACKEND": backend}}
    ):
        rule = rules_for(middleware).request
        assert rule is not None
        assert rule(RequestFactory().get("/")) is inline


@pytest.mark.parametrize("modified", [True, False])
def test_modified_session_is_saved_in_a_thread(modified: bool) -> None:
    session = import_string("django.contrib.sessions.backends.db.SessionStore")()
    session.modified = modified

    assert response_rule(SessionMiddleware, HttpResponse(), session=session) is (
        not modified
    )


def test_session_that_is_always_saved_is_saved_in_a_thread() -> None:
    session = import_string("django.contrib.sessions.backends.db.SessionStore")()
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        assert not response_rule(SessionMiddleware, HttpResponse(), session=session)


def test_session_of_another_engine_is_left_in_a_thread() -> None:
    class Session(SessionBase):
        pass

    assert not response_rule(SessionMiddleware, HttpResponse(), session=Session())


@pytest.mark.parametrize(("prepend", "inline"), [(False, True), (True, False)])
def test_url_is_resolved_in_a_thread_for_www(prepend: bool, inline: bool) -> None:
    with override_settings(PREPEND_WWW=prepend):
        assert request_rule(CommonMiddleware) is inline


@pytest.mark.parametrize(
    ("status", "append", "inline"),
    [(200, True, True), (404, False, True), (404, True, False)],
)
def test_slash_is_looked_for_in_a_thread(
    status: int, append: bool, inline: bool
) -> None:
    with override_settings(APPEND_SLASH=append):
        response = HttpResponse(status=status)
        assert response_rule(CommonMiddleware, response) is inline


@pytest.mark.parametrize("in_session", [True, False])
def test_token_in_the_session_is_read_in_a_thread(in_session: bool) -> None:
    with override_settings(CSRF_USE_SESSIONS=in_session):
        assert request_rule(CsrfViewMiddleware) is not in_session
        assert response_rule(CsrfViewMiddleware, HttpResponse()) is not in_session


@pytest.mark.parametrize(
    ("method", "exempt", "inline"),
    [("get", False, True), ("post", False, False), ("post", True, True)],
)
def test_token_is_checked_in_a_thread(method: str, exempt: bool, inline: bool) -> None:
    def view() -> None:
        pass

    view.csrf_exempt = exempt  # type: ignore[attr-defined]
    rule = rules_for(make(CsrfViewMiddleware)).view
    request = getattr(RequestFactory(), method)("/")

    assert rule is not None
    assert rule(request, view) is inline


@pytest.mark.parametrize(
    ("used", "added", "inline"),
    [(False, False, True), (True, False, False), (False, True, False)],
)
def test_messages_are_stored_in_a_thread(used: bool, added: bool, inline: bool) -> None:
    messages = BaseStorage(RequestFactory().get("/"))
    messages.used, messages.added_new = used, added

    assert (
        response_rule(MessageMiddleware, HttpResponse(), _messages=messages) is inline
    )


def test_storage_of_the_project_is_made_in_a_thread() -> None:
    with override_settings(MESSAGE_STORAGE="project.Storage"):
        assert not request_rule(MessageMiddleware)
