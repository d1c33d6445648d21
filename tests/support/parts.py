"""Which files of tests a process of ``make unit`` reads (``tests.unit``)."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

VARIABLE = "DJSERVE_UNIT_PART"
"""Which part this process runs, as in "0/2"; without it there is one."""

TESTS = Path(__file__).resolve().parents[1]

_ALL_E2E = re.compile(r"^pytestmark = (?:\[[^\]]*)?pytest\.mark\.e2e\b", re.MULTILINE)


def is_left_out(file: Path) -> bool:
    """Return whether another process reads the file, or none has to."""
    number, _, count = os.environ.get(VARIABLE, "0/1").partition("/")
    return file not in divide(TESTS, int(count))[int(number)]


@cache
def divide(folder: Path, count: int) -> list[set[Path]]:
    """Return the files with tests of units in parts of about the same size."""
    sizes = {
        file: len(text)
        for file in folder.rglob("test_*.py")
        if not is_all_e2e(text := file.read_text("utf-8"))
    }
    parts: list[set[Path]] = [set() for _ in range(count)]
    filled = [0] * count
    # Long ones first, so that the short ones even the parts out.
    for file in sorted(sizes, key=lambda file: (-sizes[file], file)):
        least = filled.index(min(filled))
        parts[least].add(file)
        filled[least] += sizes[file]
    return parts


def is_all_e2e(text: str) -> bool:
    """Return whether a module marks all of its tests with ``e2e``."""
    return _ALL_E2E.search(text) is not None
