"""The bounds on one turn of the loop: as the documentation has them, each tested."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "performance.md"
ROW = re.compile(
    r"^\| (?P<burst>[^|]+) \| (?P<most>\d+) (?P<unit>\w+) \| "
    r"`(?P<module>[\w.]+)\.(?P<name>\w+)` \| `(?P<file>[\w/.]+)::(?P<test>\w+)` \|$",
    re.MULTILINE,
)


class Bound(NamedTuple):
    """A line of the page's table."""

    burst: str
    most: str
    unit: str
    module: str
    name: str
    file: str
    test: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


BOUNDS = [Bound(*found.groups()) for found in ROW.finditer(PAGE.read_text("utf-8"))]


def test_each_line_of_the_table_is_read() -> None:
    page = PAGE.read_text("utf-8")
    table = page.partition("| burst | at most in one turn |")[2].partition("\n\n")[0]

    assert len(BOUNDS) == len(table.strip().splitlines()) - 2
    assert len(BOUNDS) > 10


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_bound_is_the_one_that_is_declared(bound: Bound) -> None:
    declared = getattr(import_module(f"djserve.{bound.module}"), bound.name)

    assert declared == int(bound.most) * (1024 if bound.unit == "KiB" else 1)


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_bound_has_the_test_that_is_named(bound: Bound) -> None:
    source = (ROOT / bound.file).read_text("utf-8")

    assert f"def {bound.test}(" in source
