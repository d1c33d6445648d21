"""The public names of the package, and what ``import djserve`` brings."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import djserve
from djserve import serving


def test_public_names_are_there_and_documented() -> None:
    for name in djserve.__all__:
        assert inspect.getdoc(getattr(djserve, name)), name


@pytest.mark.e2e
def test_package_is_imported_without_its_modules() -> None:
    code = (
        "import sys, djserve; "
        "djserve.run, djserve.serve, djserve.install_reactor; "
        "print(*sorted(name for name in sys.modules if name.startswith('djserve.')))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)

    loaded = result.stdout.split()
    assert loaded == ["djserve.conf", "djserve.conf.process"]


def test_functions_hand_over_to_the_module_of_their_work() -> None:
    assert inspect.signature(djserve.install_reactor).parameters == {}
    for name in ("install_reactor", "run", "serve"):
        assert inspect.isfunction(getattr(serving, name))


def test_unknown_name_is_named() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'srve'"):
        djserve.srve  # noqa: B018
