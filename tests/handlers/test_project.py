"""The project's application: which one, and who runs its requests."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler as DjangoHandler
from django.test import override_settings

from djserve.conf.schema import DjangoConfig
from djserve.errors import ConfigError
from djserve.handlers.project import FALLBACK, find_application_path, load_project


async def own(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("someones")
    monkeypatch.setitem(sys.modules, "someones", module)
    return module


@override_settings(ASGI_APPLICATION="someones.own")
def test_setting_names_the_application() -> None:
    assert find_application_path() == "someones.own"


@pytest.mark.parametrize("path", ["application", ".x", "x.", 5, ""])
def test_setting_must_be_a_dotted_path(path: object) -> None:
    with (
        override_settings(ASGI_APPLICATION=path),
        pytest.raises(ConfigError, match="expected a dotted path"),
    ):
        find_application_path()


@override_settings()
@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("demo_project.settings", "demo_project.asgi.application"),
        ("demo_project.chat.settings", "demo_project.asgi.application"),
        ("settings", None),
        ("email.mime.settings", None),
    ],
)
def test_without_the_setting_it_is_beside_the_settings(
    module: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if hasattr(settings, "ASGI_APPLICATION"):
        del settings.ASGI_APPLICATION
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", module)

    assert find_application_path() == expected


@override_settings()
def test_without_any_application_django_makes_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if hasattr(settings, "ASGI_APPLICATION"):
        del settings.ASGI_APPLICATION
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "settings")

    project = load_project(DjangoConfig())

    assert project.path == FALLBACK
    assert project.handler == "djserve's"


@override_settings(ASGI_APPLICATION="someones.application")
def test_handler_of_django_is_replaced(module: ModuleType) -> None:
    module.application = DjangoHandler()  # type: ignore[attr-defined]

    assert load_project(DjangoConfig()).handler == "djserve's"


@override_settings(ASGI_APPLICATION="someones.application")
def test_application_of_the_project_is_kept(module: ModuleType) -> None:
    module.application = own  # type: ignore[attr-defined]

    assert load_project(DjangoConfig()).handler == "the project's own"


@override_settings(ASGI_APPLICATION="someones.application")
def test_setting_keeps_everything_as_the_project_has_it(module: ModuleType) -> None:
    module.application = DjangoHandler()  # type: ignore[attr-defined]

    project = load_project(DjangoConfig(handler="django"))

    assert project.application is module.application
    assert project.handler == "Django's, as HANDLER says"


@override_settings(ASGI_APPLICATION="someones.other")
def test_missing_application_is_told(module: ModuleType) -> None:
    with pytest.raises(ConfigError, match="someones has no attribute 'other'"):
        load_project(DjangoConfig())
