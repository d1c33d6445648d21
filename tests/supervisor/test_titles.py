"""What the system shows as a process's name, looked up in real processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not os.path.exists("/proc/self/comm"), reason="only Linux has /proc"
)

WITHOUT_PACKAGE = "import sys; sys.modules['setproctitle'] = None\n"


def name_itself(role: str, file: str, before: str = "") -> str:
    """Return what /proc says of a process that has taken the role."""
    program = (
        f"{before}from djserve.supervisor.titles import set_title\n"
        f"set_title({role!r})\n"
        f"print(open('/proc/self/{file}').read().strip('\\0\\n'))\n"
    )
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=300
    ).stdout.strip()


@pytest.mark.e2e
def test_command_line_is_the_role() -> None:
    assert name_itself("supervisor", "cmdline") == "djserve: supervisor"


@pytest.mark.e2e
def test_without_the_package_the_short_name_is_set() -> None:
    assert name_itself("loader", "comm", WITHOUT_PACKAGE) == "djserve: loader"


@pytest.mark.e2e
def test_short_name_is_cut_where_the_system_cuts_it() -> None:
    name = name_itself("supervisor", "comm", WITHOUT_PACKAGE)

    assert name == "djserve: superv"
