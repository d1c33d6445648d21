"""The page of the Python API shows every public name, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import djserve
from djserve import channels, handlers
from tests.architecture.test_stability import find_testing_names

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "api.md"


def test_page_shows_every_public_name() -> None:
    shown = re.findall(r"^::: (\S+)$", PAGE.read_text("utf-8"), re.MULTILINE)

    top, testing = [], []
    for name in shown:
        if name.startswith("djserve.testing."):
            testing.append(name.removeprefix("djserve.testing."))
        elif not name.startswith(("djserve.handlers.", "djserve.channels.")):
            top.append(name.rpartition(".")[2])
    assert sorted(top) == sorted(djserve.__all__)
    assert sorted(testing) == sorted(find_testing_names())
    for package in (handlers, channels):
        prefix = f"{package.__name__}."
        names = [name.removeprefix(prefix) for name in shown if name.startswith(prefix)]
        assert sorted(names) == sorted(package.__all__)
