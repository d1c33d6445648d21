"""``python -m djserve``."""

from __future__ import annotations

import subprocess
import sys

import djserve
from djserve import __main__, cli


def test_module_runs_the_command() -> None:
    command = [sys.executable, "-m", "djserve", "--version"]
    result = subprocess.run(command, capture_output=True, text=True)

    assert result.stdout == f"djserve {djserve.__version__}\n"


def test_import_runs_nothing() -> None:
    assert __main__.main is cli.main
