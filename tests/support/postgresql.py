"""A PostgreSQL of one run of the tests, on a socket in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

USER = "postgres"
_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
"""Where Debian has them, which are not in the PATH there."""


def _find(program: str) -> str:
    places = os.pathsep.join([os.environ.get("PATH", ""), *map(str, _PROGRAMS)])
    path = shutil.which(program, path=places)
    if path is not None:
        return path
    reason = f"{program} is not installed"
    if os.environ.get("DJSERVE_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason}, and DJSERVE_REQUIRE_ALL=1 demands it")
    pytest.skip(reason)


def _run(folder: Path, *command: str) -> None:
    # PostgreSQL refuses to run as the superuser.
    prefix = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
    # Not a pipe: the server, started by one of the commands, would keep it open.
    with open(folder / "output", "ab") as output:
        subprocess.run(
            [*prefix, *command],
            check=True,
            cwd=folder,
            stdout=output,
            stderr=output,
            timeout=300,
        )


@contextmanager
def running_postgresql(max_connections: int = 40) -> Iterator[dict[str, Any]]:
    """Run a server; give the entries of ``DATABASES`` that lead to it."""
    initdb, pg_ctl = _find("initdb"), _find("pg_ctl")
    if not os.environ.get("DJSERVE_REQUIRE_ALL"):
        pytest.importorskip("psycopg")
    # Short, for a socket's path has 107 bytes; not pytest's, which only its user sees.
    folder = Path(tempfile.mkdtemp(prefix="djserve-pg-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, USER)
        data = str(folder / "data")
        _run(folder, initdb, "-D", data, "-U", USER, "-A", "trust", "-N")
        options = (
            f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
            f" -c max_connections={max_connections}"
        )
        log = str(folder / "log")
        _run(folder, pg_ctl, "-D", data, "-w", "-l", log, "-o", options, "start")
        try:
            yield {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "postgres",
                "USER": USER,
                "HOST": str(folder),
            }
        finally:
            _run(folder, pg_ctl, "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
