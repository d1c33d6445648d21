from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django.test import override_settings

from djserve.conf.loader import (
    HostSettings,
    list_origins,
    load,
    read_host_settings,
    read_settings,
)
from djserve.conf.parser import Flag
from djserve.conf.schema import ServerConfig
from djserve.errors import ConfigError


@override_settings()
def test_project_without_settings_has_the_defaults() -> None:
    from django.conf import settings

    if hasattr(settings, "DJSERVE"):
        del settings.DJSERVE

    assert read_settings() == {}


@override_settings(DJSERVE={"BACKLOG": 7})
def test_settings_of_the_project_are_read() -> None:
    assert load().bind.backlog == 7


@override_settings(DJSERVE={"BACKLOG": 7, "LIFESPAN": "off"})
def test_options_override_settings() -> None:
    config = load({"BACKLOG": Flag("--backlog", "9")})

    assert config.bind.backlog == 9
    assert config.lifecycle.lifespan == "off"


@override_settings(DJSERVE={"BACKLOG": 7})
def test_result_is_kept() -> None:
    assert load() is load()
    assert load({}) is load()


def test_changed_setting_is_read_again() -> None:
    with override_settings(DJSERVE={"BACKLOG": 1}):
        assert load().bind.backlog == 1
    with override_settings(DJSERVE={"BACKLOG": 2}):
        assert load().bind.backlog == 2


@override_settings(DJSERVE={"BACKLOG": 7})
def test_another_setting_changes_nothing() -> None:
    before = load()

    with override_settings(DEBUG=True):
        assert load() is before


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ""),
        ({"ROOT_PATH_MODE": "strip"}, "/app"),
        ({"ROOT_PATH_MODE": "keep"}, "/app"),
        ({"ROOT_PATH_MODE": "keep", "ROOT_PATH": "/other"}, "/other"),
    ],
)
def test_forced_script_name_is_the_root_path_once_its_mode_is_set(
    settings: dict[str, str], expected: str
) -> None:
    with override_settings(DJSERVE=settings):
        with override_settings(FORCE_SCRIPT_NAME="/app"):
            assert load().proxy.root_path == expected
            assert load({"BACKLOG": 9}).proxy.root_path == expected
        assert load().proxy.root_path == settings.get("ROOT_PATH", "")


@pytest.mark.parametrize("value", [None, [], "BIND", 5])
def test_setting_that_is_no_mapping_is_refused(value: object) -> None:
    expected = [f"DJSERVE: expected a dict of settings, got {value!r}"]

    with override_settings(DJSERVE=value), pytest.raises(ConfigError) as caught:
        load()

    assert caught.value.problems == expected


@override_settings(DJSERVE={"BACKLOG": 0})
def test_problems_of_settings_and_options_come_together() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"WORKERS": Flag("--workers", "no")})

    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "DJSERVE['BACKLOG']",
        "--workers",
    ]


@pytest.mark.e2e
def test_application_without_django_settings_has_the_defaults() -> None:
    code = "from djserve.conf.loader import load; print(load())"
    env = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}

    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True
    )

    assert done.stdout.strip() == str(ServerConfig()), done.stderr


@pytest.mark.e2e
def test_importing_the_loader_does_not_import_django() -> None:
    code = "import sys, djserve.conf.loader; print('django' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout.strip() == "False", done.stderr


@override_settings(
    ALLOWED_HOSTS=[".example.com"],
    CSRF_TRUSTED_ORIGINS=["https://example.org"],
    DEBUG=True,
)
def test_host_settings_are_those_of_the_project() -> None:
    assert read_host_settings() == HostSettings(
        (".example.com",), ("https://example.org",), True
    )


@pytest.mark.e2e
def test_host_settings_are_none_without_a_project() -> None:
    code = "import djserve.conf.loader as it; print(it.read_host_settings())"
    env = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=env, capture_output=True, text=True)

    assert result.stdout == "None\n", result.stderr


@pytest.mark.e2e
def test_settings_that_nobody_has_read_are_not_loaded() -> None:
    code = (
        "import django.conf; from djserve.conf.loader import are_settings_loaded; "
        "assert not are_settings_loaded(); django.conf.settings.DEBUG; "
        "assert are_settings_loaded()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@override_settings(DJSERVE={"BACKLOG": 7, "KEEP_ALIVE_TIMEOUT": 7})
def test_each_setting_names_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJSERVE_KEEP_ALIVE_TIMEOUT", "9s")
    monkeypatch.setenv("PORT", "5005")
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    found = {origin.key: (origin.value, origin.source) for origin in list_origins({})}

    assert found["BACKLOG"] == (7, "settings.DJSERVE")
    assert found["KEEP_ALIVE_TIMEOUT"] == (9.0, "variable DJSERVE_KEEP_ALIVE_TIMEOUT")
    assert found["BIND"] == (("0.0.0.0:5005",), "variable PORT")
    assert found["WORKERS"] == (1, "default")
