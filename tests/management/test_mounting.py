"""Django's script prefix outside of requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.test import override_settings
from django.urls import get_script_prefix, set_script_prefix

from djserve.management.mounting import mount


@pytest.fixture(autouse=True)
def _prefix() -> Iterator[None]:
    before = get_script_prefix()
    with override_settings(STATIC_URL="static/", MEDIA_URL="media/"):
        yield
    set_script_prefix(before)


@pytest.mark.parametrize("root_path", ["/shop", "/shop/", "/s%68op"])
def test_relative_urls_begin_with_the_root_path(root_path: str) -> None:
    # As a system check asks for them.
    assert (settings.STATIC_URL, settings.MEDIA_URL) == ("/static/", "/media/")

    mount(root_path)

    assert (settings.STATIC_URL, settings.MEDIA_URL) == (
        "/shop/static/",
        "/shop/media/",
    )
    assert get_script_prefix() == "/shop/"


@override_settings(STATIC_URL="/assets/", MEDIA_URL="https://cdn.example.com/")
def test_other_urls_stay() -> None:
    mount("/shop")

    assert settings.STATIC_URL == "/assets/"
    assert settings.MEDIA_URL == "https://cdn.example.com/"


@pytest.mark.parametrize(("root_path", "name"), [("", None), ("/shop", "/own")])
def test_nothing_is_done_without_need(root_path: str, name: str | None) -> None:
    with override_settings(FORCE_SCRIPT_NAME=name):
        mount(root_path)

    assert get_script_prefix() == "/"
    assert settings.STATIC_URL == "/static/"
