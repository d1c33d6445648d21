"""`make demo`: the address once it can be opened, and the way out if it is taken."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.e2e


def start(port: int, folder: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "demo_project.serve", "127.0.0.1", str(port)]
    return subprocess.Popen(
        words,
        cwd=ROOT,
        env={**os.environ, "DEMO_DATA_DIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_port_in_use_is_answered_with_the_way_to_another(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = start(port, tmp_path)
        output, errors = process.communicate(timeout=120)

    assert process.returncode == 1
    assert f"make demo PORT={port + 1}" in errors
    assert "The demo is at" not in output


def test_address_is_told_when_it_listens(free_port: int, tmp_path: Path) -> None:
    process = start(free_port, tmp_path)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == f"The demo is at http://127.0.0.1:{free_port}/ (Control-C ends it)\n"
    socket.create_connection(("127.0.0.1", free_port), 60).close()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)

    assert process.returncode == 0
