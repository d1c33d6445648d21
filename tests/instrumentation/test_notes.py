from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.utils.functional import SimpleLazyObject

from djserve.instrumentation import notes
from djserve.instrumentation.notes import (
    EXTENSION,
    REQUEST,
    Preparations,
    current_trace_id,
    find_user,
    view_name,
)
from tests.instrumentation.records import record

if TYPE_CHECKING:
    from collections.abc import Callable


def noted(**request: Any) -> Any:
    entry = record()
    entry.scope = {"extensions": {EXTENSION: {REQUEST: SimpleNamespace(**request)}}}
    return entry


def fail() -> User:
    raise AssertionError("The log has asked for the user")


def looked_up() -> SimpleLazyObject[User]:
    user: SimpleLazyObject[User] = SimpleLazyObject(lambda: User(pk=7, username="ada"))
    assert user.pk == 7
    return user


@pytest.mark.parametrize(
    ("make", "found"),
    [
        pytest.param(lambda: User(pk=7, username="ada"), ("7", "ada"), id="user"),
        pytest.param(looked_up, ("7", "ada"), id="looked-up"),
        pytest.param(lambda: SimpleLazyObject(fail), ("", ""), id="not-looked-up"),
        pytest.param(AnonymousUser, ("", ""), id="anonymous"),
        pytest.param(lambda: None, ("", ""), id="none"),
    ],
)
def test_user_is_read_from_memory_only(
    make: Callable[[], Any], found: tuple[str, str]
) -> None:
    assert find_user(noted(user=make())) == found


def test_deferred_name_is_not_fetched() -> None:
    user = User(pk=7)
    del user.__dict__["username"]

    assert find_user(noted(user=user)) == ("7", "")


def test_view_has_its_patterns_name_else_its_own() -> None:
    def named(view_name: str | None, path: str) -> str:
        match = SimpleNamespace(view_name=view_name, _func_path=path)
        return view_name_of(noted(resolver_match=match))

    view_name_of = view_name
    assert named("blog:post", "blog.views.post") == "blog:post"
    assert named(None, "blog.views.post") == "blog.views.post"
    assert view_name(noted(resolver_match=None)) == ""


def test_record_without_notes_has_nothing() -> None:
    entry = record()

    assert view_name(entry) == ""
    assert find_user(entry) == ("", "")
    assert notes.response_headers(entry) == []


def test_each_preparation_happens_once_and_only_when_it_is_wanted() -> None:
    preparations = Preparations()
    calls: list[str] = []

    def first() -> None:
        calls.append("first")

    preparations.add(first)
    preparations.add(first)
    preparations.add(lambda: calls.append("second"))
    assert calls == []

    preparations.run()
    preparations.run()
    assert calls == ["first", "second"]


def test_code_outside_a_request_belongs_to_no_trace() -> None:
    assert current_trace_id.get() == ""
