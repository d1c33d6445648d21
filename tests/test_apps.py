from __future__ import annotations

from django.apps import apps
from django.core.checks import Tags
from django.core.checks.registry import registry

from djserve import checks
from djserve.apps import DjserveConfig


def test_app_is_found_by_its_name() -> None:
    assert isinstance(apps.get_app_config("djserve"), DjserveConfig)


def test_app_has_no_models() -> None:
    assert list(apps.get_app_config("djserve").get_models()) == []


def test_every_check_is_registered_under_our_tag() -> None:
    registered = {check for check in registry.get_checks() if checks.TAG in check.tags}

    assert registered >= set(checks.CHECKS)
    assert checks.TAG not in vars(Tags).values()
