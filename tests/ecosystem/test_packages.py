"""Each package does under djserve what it does under Uvicorn, or better."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.ecosystem.run import compare
from tests.ecosystem.table import PACKAGES

RESULTS = Path(os.environ.get("ECOSYSTEM_RESULTS", ROOT / "build" / "ecosystem"))


@pytest.mark.e2e
@pytest.mark.parametrize("name", PACKAGES)
def test_package_sees_each_user_alone(name: str, tmp_path: Path) -> None:
    comparison = compare(PACKAGES[name], tmp_path)

    comparison.save(RESULTS)
    assert comparison.ours.faults == []
