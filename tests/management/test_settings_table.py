"""The table of ``manage.py djserve settings``: all sources, and no secrets."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from djserve.conf.catalogue import settings_by_key
from djserve.conf.processes import ProcessConfig
from djserve.cpus import measure_cpus
from djserve.errors import ConfigError
from djserve.management.settings_table import describe, show_settings

VARIABLES = ("PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")


@pytest.fixture(autouse=True)
def _no_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def show(**options: Any) -> list[str]:
    lines: list[str] = []
    show_settings({"changed": False, "verbosity": 1, **options}, lines.append)
    return lines


def find(lines: list[str], key: str) -> list[str]:
    (line,) = [each for each in lines if each.split()[:1] == [key]]
    return line.split(maxsplit=1)


@override_settings(DJSERVE={"BACKLOG": 7})
def test_value_of_each_source_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DJSERVE_KEEP_ALIVE_TIMEOUT", "2m")
    monkeypatch.setenv("PORT", "5005")
    call_command("djserve", "settings", "--workers", "3", "--no-http2")
    rows = {
        words[0]: words[1:]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("  ") and (words := line.split())
    }

    assert rows["WORKERS"] == ["--workers", "3"]
    assert rows["HTTP2"] == ["--http2", "False"]
    assert rows["KEEP_ALIVE_TIMEOUT"] == [
        "variable",
        "DJSERVE_KEEP_ALIVE_TIMEOUT",
        "120",
    ]
    assert rows["BIND"] == ["variable", "PORT", "['0.0.0.0:5005']"]
    assert rows["BACKLOG"] == ["settings.DJSERVE", "7"]
    assert rows["UNIX_MODE"] == ["default", "'666'"]
    assert set(rows) == set(settings_by_key())


@override_settings(DJSERVE={"BACKLOG": 7})
def test_columns_are_aligned_and_only_values_may_be_long() -> None:
    lines = show(addrport="8000", headers=["X-A: " + "b" * 200])
    column = lines[0].index("Value")
    rows = [line for line in lines[1:] if line.startswith("  ")]

    assert lines[0].split() == ["Setting", "Set", "by", "Value"]
    assert column < 64
    assert all(line[column - 1] == " " and line[column] != " " for line in rows)
    assert "addrport" in find(lines, "BIND")[1]


@override_settings(DJSERVE={})
def test_nothing_that_is_changed_is_said() -> None:
    assert show(changed=True) == ["All settings are at their defaults."]


@override_settings(DJSERVE={"ROOT_PATH_MODE": "strip"}, FORCE_SCRIPT_NAME="/shop")
def test_value_that_another_setting_gives_names_that() -> None:
    assert find(show(changed=True), "ROOT_PATH")[1].split() == [
        "FORCE_SCRIPT_NAME",
        "'/shop'",
    ]


@override_settings(DJSERVE={"BACKLOG": 0})
def test_wrong_setting_is_an_error() -> None:
    with pytest.raises(ConfigError, match="BACKLOG"):
        show()


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("KEYFILE_PASSWORD", "swordfish", "***"),
        ("KEYFILE_PASSWORD", None, "None"),
        ("SHUTDOWN_TIMEOUT", 30.0, "30"),
        ("BODY_SIZE_LIMIT", 2 * 1024**3, "2147483648 (2 GiB)"),
        ("WORKERS", 2, "2"),
        ("WORKERS", None, f"auto = {measure_cpus().count} ({measure_cpus().source})"),
        ("STATSD", "a:1", "'a:1'"),
        ("BIND", ("a:1", "b:2"), "['a:1', 'b:2']"),
        (
            "PROCESSES",
            (ProcessConfig(name="a", program=("x", "redis://:pa55@c")),),
            "['a=x redis://:***@c']",
        ),
        ("ACME_DIRECTORY", "https://a:pa55@b/", "'https://a:***@b/'"),
    ],
)
def test_value_is_shown_as_it_is_written(key: str, value: Any, text: str) -> None:
    assert describe(settings_by_key()[key], value) == text


def test_threads_show_what_is_counted() -> None:
    text = describe(settings_by_key()["THREADS"], None)

    assert text.startswith("None = ")
    assert measure_cpus().source in text
