from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e


def test_process_is_a_worker_once_it_is_told_so() -> None:
    code = (
        "import djserve\n"
        "from djserve.conf.process import become_worker\n"
        "before = djserve.is_worker()\n"
        "become_worker()\n"
        "print(before, djserve.is_worker())\n"
    )
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert output.split() == ["False", "True"]
