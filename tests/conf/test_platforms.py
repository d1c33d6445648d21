"""Which settings do not fit the platform that the server runs on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from djserve.conf import platforms
from djserve.conf.parser import parse
from djserve.conf.platforms import describe_misfits, find_platform


@pytest.fixture(autouse=True)
def no_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run in a container themselves."""
    monkeypatch.setattr(platforms, "CONTAINER_FILES", ())


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("DYNO", "Heroku"),
        ("K_SERVICE", "Cloud Run"),
        ("KUBERNETES_SERVICE_HOST", "Kubernetes"),
    ],
)
def test_platform_is_known_by_its_variable(variable: str, name: str) -> None:
    platform = find_platform({variable: "x"})

    assert platform is not None
    assert platform.name == name


def test_container_is_known_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".dockerenv"
    monkeypatch.setattr(platforms, "CONTAINER_FILES", (str(file),))
    assert find_platform({}) is None
    file.touch()

    assert find_platform({}) is platforms.CONTAINER
    assert find_platform({"DYNO": "web.1"}) is platforms.PLATFORMS[0]


def find_misfits(
    settings: Mapping[str, object], platform: platforms.Platform | None
) -> list[str]:
    config = parse(settings)
    return describe_misfits(config.lifecycle, config.http, platform)


def test_defaults_do_not_fit_a_container_and_it_is_said_how_to_mend_it() -> None:
    (line,) = find_misfits({}, platforms.CONTAINER)

    assert line.startswith("Docker kills a process 10 seconds after SIGTERM")
    assert "SHUTDOWN_TIMEOUT is 30. Lower it, to 8" in line
    assert find_misfits({"SHUTDOWN_TIMEOUT": 8}, platforms.CONTAINER) == []


def test_router_that_keeps_connections_longer_is_told_of() -> None:
    heroku = find_platform({"DYNO": "web.1"})
    fitting = {"SHUTDOWN_TIMEOUT": 28, "KEEP_ALIVE_TIMEOUT": 95}

    (line,) = find_misfits({"SHUTDOWN_TIMEOUT": 28}, heroku)
    assert "Set it to 95" in line
    assert find_misfits(fitting, heroku) == []


def test_unknown_platform_is_told_nothing() -> None:
    assert find_misfits({}, None) == []
