"""The packages of settings are those of the extras, and are looked for alike."""

from __future__ import annotations

import re
import sys
import tomllib
from collections import defaultdict
from importlib import metadata
from pathlib import Path

import pytest

from djserve.conf.catalogue import settings_by_key
from djserve.conf.extras import NEEDS, is_installed, missing_package

ROOT = Path(__file__).parents[2]

# Extras of developers, and one of packages that serve no setting by themselves.
WITHOUT_SETTING = {"bench", "dev", "production", "test"}


def test_table_has_every_package_of_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {
        extra: {re.split("[<>=; ]", text)[0] for text in packages}
        for extra, packages in project["optional-dependencies"].items()
        if extra not in WITHOUT_SETTING
    }
    found: defaultdict[str, set[str]] = defaultdict(set)
    for need in NEEDS:
        found[need.extra].add(need.package)

    assert found == declared


def test_settings_of_the_table_exist() -> None:
    named = {setting for need in NEEDS for setting in need.settings}

    assert named - {"CHANNEL_LAYERS"} <= set(settings_by_key())


@pytest.mark.parametrize("need", NEEDS, ids=lambda need: need.package)
def test_module_is_the_packages(need: object) -> None:
    package, module = need.package, need.module  # type: ignore[attr-defined]
    try:
        files = metadata.files(package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    path = module.replace(".", "/")
    names = {file.as_posix() for file in files or ()}

    assert any(name.startswith((f"{path}/", f"{path}.")) for name in names)
    assert is_installed(module)


def test_module_that_is_not_there_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "brotli", None)

    assert not is_installed("brotli")
    assert not is_installed("no_such_package")
    assert not is_installed("no_such_package.module")
    assert is_installed("djserve.errors")


def test_error_names_the_extra() -> None:
    assert missing_package("HTTP3", "aioquic").problems == [
        'HTTP3 needs the package aioquic: install "djserve[http3]"'
    ]
