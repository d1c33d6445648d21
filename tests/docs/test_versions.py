"""The page of versions names what pyproject.toml declares."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reference/versions.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

# For those who work on djserve.
OURS = {"bench", "dev", "test"}


def test_each_version_of_the_classifiers_has_a_row() -> None:
    classifiers = "\n".join(PROJECT["classifiers"])
    declared = re.findall(r"Python :: (3\.\d+)", classifiers)

    assert declared
    assert [each for each in declared if f"\n| {each} | " not in PAGE] == []


def test_each_extra_has_a_row() -> None:
    named = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)

    assert set(named) == set(PROJECT["optional-dependencies"]) - OURS


def test_no_package_has_an_upper_bound() -> None:
    assert [each for each in PROJECT["dependencies"] if "<" in each.split(";")[0]] == []
