"""The benchmark of HTTP/3, shortened to one round of little."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.e2e


def test_row_has_all_figures() -> None:
    words = ["--seconds", "0.2", "--mebibytes", "1", "--server", "djserve"]
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.http3", *words],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    ).stdout

    row = output.splitlines()[-1]
    figures = r"\d+ \| \d+ µs" + r" \| \d+\.\d s" * 4
    assert re.fullmatch(rf"\| djserve \| {figures} \|", row), output
