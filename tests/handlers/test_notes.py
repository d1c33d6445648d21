from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.urls import ResolverMatch

from djserve.handlers.notes import note_requests, note_views
from djserve.instrumentation.notes import DJANGO_REQUEST, REQUEST, take_notes, take_view


@pytest.fixture(autouse=True)
def _noting(monkeypatch: pytest.MonkeyPatch) -> None:
    create_request = ASGIHandler.create_request
    monkeypatch.setattr(ASGIHandler, "create_request", create_request)
    note_requests()


def make_scope(**values: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": "/", "headers": [], **values}


def test_request_is_noted_where_notes_are_taken() -> None:
    scope = make_scope(extensions={})
    notes = take_notes(scope)
    request, refusal = ASGIHandler().create_request(scope, BytesIO())

    assert refusal is None
    assert request is not None
    assert notes[REQUEST] is request


@pytest.mark.parametrize("extensions", [{}, {"extensions": {}}])
def test_other_requests_are_made_as_ever(extensions: dict[str, Any]) -> None:
    scope = make_scope(**extensions)
    request, _ = ASGIHandler().create_request(scope, BytesIO())

    assert request is not None
    assert scope == make_scope(**extensions)


def test_request_is_left_with_its_scope_until_its_end() -> None:
    note_views()
    scope = make_scope(extensions={})
    request, _ = ASGIHandler().create_request(scope, BytesIO())
    assert request is not None
    assert scope["extensions"] == {DJANGO_REQUEST: request}

    request.resolver_match = ResolverMatch(print, (), {}, "cart", namespaces=["shop"])
    assert take_view(scope) == "shop:cart"
    assert scope["extensions"] == {}


def test_scope_without_extensions_is_left_alone() -> None:
    note_views()
    scope = make_scope()
    ASGIHandler().create_request(scope, BytesIO())

    assert scope == make_scope()
    assert take_view(scope) == ""
