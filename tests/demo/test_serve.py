"""`make demo`: the address once it can be opened, and the way out if it is taken."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from demo_project import serve

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.e2e


def start(
    port: int | str, folder: Path, address: str = "127.0.0.1", **env: str
) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "demo_project.serve", address, str(port)]
    return subprocess.Popen(
        words,
        cwd=ROOT,
        env={**os.environ, "DEMO_DATA_DIR": str(folder), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def listening(count: int) -> Iterator[list[int]]:
    """Listen on several ports in a row."""
    while True:
        with ExitStack() as stack:
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            ports = range(first.getsockname()[1], first.getsockname()[1] + count)
            try:
                for port in ports[1:]:
                    address = "127.0.0.1", port
                    stack.enter_context(socket.create_server(address))
            except (OSError, OverflowError):
                continue
            yield [*ports]
            return


def test_port_in_use_is_answered_with_the_way_to_another(tmp_path: Path) -> None:
    with listening(2) as (port, next_port):
        process = start(port, tmp_path)
        output, errors = process.communicate(timeout=120)

    assert process.returncode == 1
    assert f"Port {port} of 127.0.0.1 is in use" in errors
    other = int(errors.split("make demo PORT=")[1])
    assert other > next_port
    assert "The demo is at" not in output


def test_last_port_in_use_is_answered_with_a_lower_one() -> None:
    assert serve.find_other("127.0.0.1", serve.LAST_PORT) < serve.LAST_PORT


@pytest.mark.parametrize("port", ["", "0", "65536", "http", "-1", "8000.5", "٣"])
def test_port_that_is_none_is_refused(port: str, tmp_path: Path) -> None:
    process = start(port, tmp_path)
    _, errors = process.communicate(timeout=120)

    assert process.returncode == 2
    assert errors == f"PORT: expected a number from 1 to 65535, got {port!r}\n"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "[::1]"])
def test_address_is_told_when_it_answers(
    free_port: int, tmp_path: Path, address: str, request: pytest.FixtureRequest
) -> None:
    if ":" in address:
        request.getfixturevalue("require_ipv6")
    process = start(free_port, tmp_path, address)
    assert process.stdout is not None
    line = process.stdout.readline()
    host = "[::1]" if ":" in address else address
    assert line == f"The demo is at http://{host}:{free_port}/ (Control-C ends it)\n"
    url = f"http://{host}:{free_port}/static/demo/logo.svg"
    assert httpx.get(url, timeout=120).status_code == 200
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)

    assert process.returncode == 0
    assert "Careful" not in errors


def test_address_is_not_told_of_a_server_that_cannot_load(
    free_port: int, tmp_path: Path
) -> None:
    process = start(free_port, tmp_path, DATABASE_URL="oracle://x/y")
    output, _ = process.communicate(timeout=120)

    assert process.returncode != 0
    assert output == ""


@pytest.mark.parametrize(
    ("debug", "is_warned"), [("1", True), ("0", False)], ids=["DEBUG", "without"]
)
def test_address_that_others_reach_is_warned_of(
    free_port: int, tmp_path: Path, debug: str, is_warned: bool
) -> None:
    # Without DEBUG and what that needs it does not start; the warning comes before.
    env = {"DEBUG": debug, "DATABASE_URL": "oracle://x/y"}
    process = start(free_port, tmp_path, "0.0.0.0", **env)
    _, errors = process.communicate(timeout=120)

    assert ("can sign in as admin" in errors) is is_warned
