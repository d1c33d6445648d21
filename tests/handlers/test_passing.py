"""Calls into threads where an agent has replaced asgiref's methods."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import SyncToAsync
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path

from djserve.handlers import ASGIHandler
from djserve.handlers.passing import is_asgiref_patched
from djserve.handlers.runtime import make_pool
from tests.handlers import agents
from tests.handlers.conversation import Conversation


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse("from a thread")


urlpatterns = [path("", view)]


def test_methods_of_asgiref_are_known() -> None:
    assert not is_asgiref_patched()


@pytest.mark.parametrize("name", ["__call__", "thread_handler"])
def test_patched_method_is_called_around_the_view(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = agents.Counted()
    patch: Any = counted.as_decorator(vars(SyncToAsync)[name])
    monkeypatch.setattr(SyncToAsync, name, patch)
    pool = make_pool(2)
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        client = Conversation("/")
        asyncio.run(client.request(ASGIHandler(pool)))

    assert client.content == b"from a thread"
    assert counted.calls == 1
    # Bound by the pool all the same.
    assert pool.stats().threads == 1
    pool.close(60)


@pytest.mark.parametrize("name", ["__call__", "thread_handler"])
def test_code_put_into_a_method_is_called_around_the_view(name: str) -> None:
    pool = make_pool(2)
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        application, client = ASGIHandler(pool), Conversation("/")
        with agents.code_put_into(vars(SyncToAsync)[name]) as calls:
            asyncio.run(client.request(application))

    assert client.content == b"from a thread"
    assert len(calls) == 1
    pool.close(60)
