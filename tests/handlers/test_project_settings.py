"""The project's settings as read for each request: what Django's object would say."""

from __future__ import annotations

import subprocess
import sys

import pytest
from django.conf import settings
from django.test import override_settings

from djserve.handlers.project_settings import read_setting

# As Dynaconf does: an object of its own kind where Django's modules look for settings.
FOREIGN = """
import sys, types
from django import conf

conf.settings.configure()
django_settings = conf.settings

class Settings:
    values = {"ROOT_URLCONF": "first"}
    def __getattr__(self, name):
        return self.values.get(name) or getattr(django_settings, name)

module = types.ModuleType("django.conf")
module.__dict__.update(vars(conf), settings=Settings())
sys.modules["django.conf"] = module

from djserve.handlers.project_settings import read_setting

assert read_setting("ROOT_URLCONF") == "first"
Settings.values["ROOT_URLCONF"] = "second"
print(read_setting("ROOT_URLCONF"))
"""


def test_overridden_setting_is_seen_and_so_is_its_end() -> None:
    before = read_setting("APPEND_SLASH")

    with override_settings(APPEND_SLASH="outer"):
        outer = read_setting("APPEND_SLASH")
        with override_settings(APPEND_SLASH="inner"):
            inner = read_setting("APPEND_SLASH")
        again = read_setting("APPEND_SLASH")

    assert (outer, inner, again) == ("outer", "inner", "outer")
    assert read_setting("APPEND_SLASH") == before == settings.APPEND_SLASH


def test_setting_that_is_set_by_hand_is_seen() -> None:
    with override_settings(PREPEND_WWW=False):
        read_setting("PREPEND_WWW")
        settings.PREPEND_WWW = True

        assert read_setting("PREPEND_WWW") is True

    assert read_setting("PREPEND_WWW") is False


def test_setting_that_is_deleted_is_missing() -> None:
    with override_settings(X_TEST=1):
        assert read_setting("X_TEST") == 1
        delattr(settings, "X_TEST")

        with pytest.raises(AttributeError):
            read_setting("X_TEST")


@pytest.mark.e2e
def test_settings_object_of_another_package_is_asked_each_time() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FOREIGN], capture_output=True, text=True, timeout=120
    )

    assert done.stdout == "second\n", done.stderr
