from __future__ import annotations

import importlib.machinery
import importlib.util

import pytest
from django.apps import apps
from django.core.checks import Tags
from django.core.checks.registry import registry
from django.core.exceptions import ImproperlyConfigured

from djserve.apps import DjserveConfig, require_channels
from djserve.checks import TAG, channel_layers, packages, project


def test_app_is_found_by_its_name() -> None:
    assert isinstance(apps.get_app_config("djserve"), DjserveConfig)


def test_app_has_no_models() -> None:
    assert list(apps.get_app_config("djserve").get_models()) == []


def test_every_check_is_registered_under_our_tag() -> None:
    registered = {check for check in registry.get_checks() if TAG in check.tags}

    expected = (*project.CHECKS, *channel_layers.CHECKS, *packages.CHECKS)
    assert registered >= set(expected)
    assert TAG not in vars(Tags).values()


def test_channels_among_the_apps_has_to_be_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_channels(["djserve", "channels"])
    find_spec = importlib.util.find_spec

    def find_without_channels(name: str) -> importlib.machinery.ModuleSpec | None:
        return None if name == "channels" else find_spec(name)

    monkeypatch.setattr("djserve.apps.find_spec", find_without_channels)

    require_channels(["djserve", "channels_ui", "site.channels"])
    for app in ("channels", "channels.apps.ChannelsConfig"):
        with pytest.raises(ImproperlyConfigured, match=r"djserve\[channels\]"):
            require_channels(["djserve", app])
