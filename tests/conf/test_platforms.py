"""Which settings do not fit the platform that the server runs on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from djserve.conf import platforms
from djserve.conf.parser import parse
from djserve.conf.platforms import (
    CONTAINER,
    PLATFORMS,
    Platform,
    describe_misfits,
    find_platform,
)

# What each puts into the environment, among it what another has, too.
ENVIRONMENTS = {
    "Heroku": {"DYNO": "web.1", "PORT": "5005"},
    "Dokku": {"DOKKU_APP_TYPE": "herokuish", "DYNO": "web.1", "PORT": "5000"},
    "Fly.io": {"FLY_APP_NAME": "mysite", "FLY_REGION": "ams"},
    "Render": {"RENDER": "true", "KUBERNETES_SERVICE_HOST": "10.0.0.1"},
    "Railway": {"RAILWAY_ENVIRONMENT_NAME": "production", "PORT": "8080"},
    "Cloud Run": {"K_SERVICE": "mysite", "PORT": "8080"},
    "Amazon ECS": {"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/1"},
    "Kubernetes": {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
}

# Settings as the guides give them.
FITTING: dict[str, dict[str, Any]] = {
    "Heroku": {"SHUTDOWN_TIMEOUT": 28, "KEEP_ALIVE_TIMEOUT": 95},
    "Dokku": {"SHUTDOWN_TIMEOUT": 28},
    "Fly.io": {"PLATFORM_GRACE": 35, "PROXY_HEADERS_HOST": "Fly-Client-IP"},
    "Render": {"SHUTDOWN_TIMEOUT": 28, "PROXY_HEADERS_HOST": "CF-Connecting-IP"},
    "Railway": {"PLATFORM_GRACE": 35, "PROXY_HEADERS_HOST": "X-Real-IP"},
    "Cloud Run": {"SHUTDOWN_TIMEOUT": 8, "KEEP_ALIVE_TIMEOUT": 620},
    "Amazon ECS": {"SHUTDOWN_TIMEOUT": 25},
    "Kubernetes": {"SHUTDOWN_TIMEOUT": 25},
    "Docker": {"SHUTDOWN_TIMEOUT": 8},
}
PROXY = {"PROXY_HEADERS": True, "TRUSTED_PROXIES": ["private"]}

every_platform = pytest.mark.parametrize(
    "platform", [*PLATFORMS, CONTAINER], ids=lambda platform: platform.name
)


@pytest.fixture(autouse=True)
def no_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run in a container themselves."""
    monkeypatch.setattr(platforms, "CONTAINER_FILES", ())


def describe(platform: Platform | None, /, **settings: Any) -> str:
    """Return what is said of settings; at most one line."""
    return describe_with({}, platform, **settings)


def describe_with(
    environ: Mapping[str, str], platform: Platform | None, /, **settings: Any
) -> str:
    config = parse(settings)
    has_tls = config.tls.certfile is not None
    groups = config.lifecycle, config.http, config.proxy
    lines = describe_misfits(*groups, platform, environ, has_tls=has_tls)
    assert len(lines) <= 1
    return "".join(lines)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_platform_is_known_by_its_variables(name: str) -> None:
    platform = find_platform(ENVIRONMENTS[name])

    assert platform is not None
    assert platform.name == name


def test_every_platform_has_its_environment_here() -> None:
    assert {platform.name for platform in PLATFORMS} == set(ENVIRONMENTS)


@pytest.mark.parametrize(
    "environ", [{}, {"DYNO": ""}, {"K_SERVICE": ""}, {"PORT": "80"}, {"RENDER": ""}]
)
def test_other_environments_are_no_platform(environ: dict[str, str]) -> None:
    assert find_platform(environ) is None


def test_container_is_known_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".dockerenv"
    monkeypatch.setattr(platforms, "CONTAINER_FILES", (str(file),))
    assert find_platform({}) is None
    file.touch()

    assert find_platform({}) is CONTAINER
    heroku = find_platform({"DYNO": "web.1"})
    assert heroku is not None
    assert heroku.name == "Heroku"


@every_platform
def test_settings_that_fit_are_passed_over(platform: Platform) -> None:
    assert describe(platform, **FITTING[platform.name], **PROXY) == ""


@every_platform
def test_drain_longer_than_the_platform_waits_is_named(platform: Platform) -> None:

    line = describe(platform, SHUTDOWN_TIMEOUT=60, KEEP_ALIVE_TIMEOUT=700, **PROXY)
    assert f"{platform.name}: it kills a process {platform.grace:g} seconds" in line
    assert "SHUTDOWN_TIMEOUT is 60" in line
    assert "KEEP_ALIVE_TIMEOUT" not in line


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("Heroku", "(set SHUTDOWN_TIMEOUT to 25)"),
        ("Cloud Run", "(set SHUTDOWN_TIMEOUT to 5)"),
        (
            "Fly.io",
            "(set SHUTDOWN_TIMEOUT to 2.5, or kill_timeout and PLATFORM_GRACE to 35)",
        ),
        ("Railway", "(set drainingSeconds and PLATFORM_GRACE to 35)"),
    ],
)
def test_it_is_said_how_to_have_the_time(name: str, remedy: str) -> None:
    assert remedy in describe(find_platform(ENVIRONMENTS[name]))


def test_defaults_do_not_fit_a_container() -> None:
    assert describe(CONTAINER) == (
        "Docker: it kills a process 10 seconds after SIGTERM, and SHUTDOWN_TIMEOUT is "
        "30 (set SHUTDOWN_TIMEOUT to 5, or stop_grace_period and PLATFORM_GRACE to 35)"
    )


def test_longer_grace_that_was_asked_for_counts() -> None:
    assert describe(CONTAINER, PLATFORM_GRACE=31) == ""
    assert "kills a process 30 seconds" in describe(CONTAINER, PLATFORM_GRACE=30)
    tiny = describe(find_platform({"DYNO": "web.1"}), PLATFORM_GRACE=1)
    assert "set SHUTDOWN_TIMEOUT to 0.5" in tiny
    assert describe(CONTAINER, SHUTDOWN_TIMEOUT=0) == ""


@pytest.mark.parametrize(
    ("seconds", "fits"), [("45", True), ("5", False), ("?", False)]
)
def test_railway_shows_the_grace_that_was_asked_for(seconds: str, fits: bool) -> None:
    environ = ENVIRONMENTS["Railway"] | {"RAILWAY_DEPLOYMENT_DRAINING_SECONDS": seconds}
    settings: dict[str, Any] = {"PROXY_HEADERS_HOST": "X-Real-IP", **PROXY}

    assert (not describe_with(environ, find_platform(environ), **settings)) is fits


@every_platform
def test_router_that_keeps_connections_longer_is_named(platform: Platform) -> None:
    settings = FITTING[platform.name] | PROXY | {"KEEP_ALIVE_TIMEOUT": 5}
    line = describe(platform, **settings)

    if platform.keep_alive:
        assert f"keeps idle connections for {platform.keep_alive:g} seconds" in line
        assert f"is 5 (set it to {platform.keep_alive + 5:g})" in line
        settings["KEEP_ALIVE_TIMEOUT"] = platform.keep_alive
        assert "KEEP_ALIVE_TIMEOUT" in describe(platform, **settings)
    else:
        assert line == ""


@every_platform
def test_proxy_headers_are_missed_if_a_router_is_always_there(
    platform: Platform,
) -> None:
    fitting = FITTING[platform.name]
    off = describe(platform, **fitting)
    of_nobody = describe(platform, **fitting, PROXY_HEADERS=True)

    if platform.has_router:
        assert "set PROXY_HEADERS, TRUSTED_PROXIES to private)" in off
        assert "set TRUSTED_PROXIES to private)" in of_nobody
    else:
        assert off == of_nobody == ""


@pytest.mark.parametrize("name", ["Fly.io", "Render", "Railway"])
def test_header_that_names_the_client_is_named(name: str) -> None:
    platform = find_platform(ENVIRONMENTS[name])
    assert platform is not None
    settings = FITTING[name] | {"PROXY_HEADERS_HOST": "X-Forwarded-For"}

    assert f"(set PROXY_HEADERS_HOST to {platform.client_header})" in describe(
        platform, **settings, **PROXY
    )
    settings["PROXY_HEADERS_HOST"] = platform.client_header.lower()
    assert describe(platform, **settings, **PROXY) == ""


def test_connections_of_the_clients_own_need_no_proxy_headers(tmp_path: Path) -> None:
    fly, pem = find_platform(ENVIRONMENTS["Fly.io"]), tmp_path / "pem"
    pem.touch()

    tls = {"CERTFILE": str(pem), "KEYFILE": str(pem)}

    assert describe(fly, PLATFORM_GRACE=40, PROXY_PROTOCOL=True) == ""
    assert describe(fly, PLATFORM_GRACE=40, **tls) == ""


def test_all_misfits_are_on_one_line() -> None:
    line = describe(find_platform(ENVIRONMENTS["Heroku"]))

    assert line.startswith("Heroku: it kills")
    assert line.count("; ") == 2
    assert "\n" not in line


def test_unknown_platform_is_told_nothing() -> None:
    assert describe(None) == ""
