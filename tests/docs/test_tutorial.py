"""The tutorial does what it says; ``python -m tests.docs.follow`` installs it, too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.docs.follow import PAGES, Reader


@pytest.mark.e2e
def test_tutorial_works_as_it_is_written(tmp_path: Path) -> None:
    reader = Reader(tmp_path, sys.executable, installs=False)
    for page in PAGES:
        reader.follow(page)
