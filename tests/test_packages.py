"""Private names of other packages: those that are used are there, or it is said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from djserve.errors import ConfigError
from djserve.packages import require, require_calls
from tests.e2e.project import add_settings, make_project


class Kind:
    """A class of another package."""

    def __init__(self) -> None:
        self.kept = 1

    def method(self) -> None:
        self.called()  # type: ignore[attr-defined]


def test_what_is_there_is_no_problem() -> None:
    require("h2", Kind, "kept", "method")
    require_calls("h2", Kind, "called")


def test_what_is_missing_is_named_with_its_package() -> None:
    with pytest.raises(ConfigError) as caught:
        require("h2", Kind, "kept", "gone", "lost")

    (problem,) = caught.value.problems
    assert problem.startswith("h2 4.")
    assert "Kind's gone, lost: install an older h2" in problem


def test_name_that_a_module_lacks_is_refused_with_the_release_that_has_it() -> None:
    require("h2", os, "path", oldest="99")
    with pytest.raises(ConfigError, match=r"uses os's gone: install h2 99, or a newer"):
        require("h2", os, "path", "gone", oldest="99")


def test_class_that_sets_nothing_lacks_the_name() -> None:
    class Empty:
        """A class without an ``__init__``."""

    with pytest.raises(ConfigError, match="Empty's gone: install an older h2"):
        require("h2", Empty, "gone")


def test_hook_that_is_called_no_more_is_named() -> None:
    class Deaf:
        def method(self) -> None:
            self.other()  # type: ignore[attr-defined]

    with pytest.raises(ConfigError, match="Deaf's called: install an older h2"):
        require_calls("h2", Deaf, "called", "other")


def test_package_without_a_version_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nonesuch \(unknown version\) does not fit"):
        require("nonesuch", Kind, "gone")


# Each stands for a release without the name.
WITHOUT = """
import importlib, sys
def remove(path, attribute):
    module, name = path.rsplit(".", 1)
    for kind in getattr(importlib.import_module(module), name).__mro__:
        if attribute in vars(kind):
            delattr(kind, attribute)
"""
TWISTED = "remove('twisted.internet.tcp.Client', '_connectDone')\n"


def run_without(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code],
        cwd=folder,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "mysite.settings"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("path", "attribute", "module"),
    [
        ("h2.connection.H2Connection", "_receive_settings_frame", "http2.codec"),
        ("hpack.table.HeaderTable", "maxsize", "http2.hpack"),
        (
            "autobahn.websocket.protocol.WebSocketProtocol",
            "_dataReceived",
            "websocket.codec",
        ),
    ],
)
def test_module_is_not_imported_beside_a_release_that_does_not_fit(
    path: str, attribute: str, module: str, tmp_path: Path
) -> None:
    code = f"remove('{path}', '{attribute}')\nimport djserve.protocols.{module}"
    told = run_without(tmp_path, code).stderr.splitlines()[-1]

    assert told.startswith("djserve.errors.ConfigError: " + path.partition(".")[0])
    assert f"{attribute}: install an older" in told


@pytest.mark.e2e
@pytest.mark.parametrize(
    "run",
    [
        "sys.argv = ['djserve', 'app:application']\n"
        "from djserve.__main__ import main; sys.exit(main())",
        "sys.argv = ['manage.py', 'runasgi']\n"
        "from django.core.management import execute_from_command_line; "
        "execute_from_command_line()",
    ],
    ids=["djserve", "runasgi"],
)
def test_release_that_does_not_fit_ends_the_start_with_one_line(
    run: str, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "project")
    add_settings(project, 'INSTALLED_APPS = ["djserve", *INSTALLED_APPS]')
    # Else the checks, which come first, have something to say as well.
    add_settings(project, 'ASGI_APPLICATION = "mysite.asgi.application"')
    ended = run_without(project, TWISTED + run)

    assert ended.stderr.count("\n") == 1
    assert "twisted 2" in ended.stderr
    assert "_connectDone: install an older twisted" in ended.stderr
    assert ended.returncode == 2
