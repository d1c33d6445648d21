"""A PostgreSQL for one run, on a socket in a folder that is made and thrown away."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import BenchmarkError

USER = "postgres"
REFUSALS = (
    "too many clients already",
    "remaining connection slots are reserved",
)
"""What its log says of a connection that it refuses for having too many."""

_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
"""Where Debian has them, which are not in the PATH there."""


class Cluster:
    """A PostgreSQL that runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """That of its socket, too."""
        self.log = folder / "log"
        self._read = 0

    def refusals(self) -> int:
        """Return how many connections it has refused since it was last asked."""
        with self.log.open(errors="replace") as log:
            log.seek(self._read)
            text = log.read()
            self._read = log.tell()
        return sum(text.count(refusal) for refusal in REFUSALS)

    def connections(self) -> int:
        """Return how many clients are connected now."""
        return sum(b"[local]" in _command_line(pid) for pid in self._children())

    def _children(self) -> Iterator[str]:
        lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
        task = Path(f"/proc/{lines[0]}/task/{lines[0]}/children")
        yield from task.read_text().split()


def _command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextmanager
def running_postgresql(max_connections: int) -> Iterator[Cluster]:
    """Run one for so many connections; it ends with the block."""
    initdb, pg_ctl = find_program("initdb"), find_program("pg_ctl")
    if initdb is None or pg_ctl is None:
        raise BenchmarkError("initdb and pg_ctl are missing: install PostgreSQL")
    # PostgreSQL refuses to run as the superuser.
    prefix = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
    # Short, for a socket's path has 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="djserve-bench-"))
    cluster = Cluster(folder)

    def run(*command: str) -> None:
        # Not a pipe: the server, started by one of the commands, would keep it open.
        with open(folder / "output", "ab") as output:
            subprocess.run(
                [*prefix, *command],
                check=True,
                cwd=folder,
                stdout=output,
                stderr=output,
            )

    try:
        if prefix:
            shutil.chown(folder, USER)
        data = str(folder / "data")
        options = (
            f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
            f" -c max_connections={max_connections}"
        )
        run(initdb, "-D", data, "-U", USER, "-A", "trust", "-N")
        run(pg_ctl, "-D", data, "-w", "-l", str(cluster.log), "-o", options, "start")
        try:
            yield cluster
        finally:
            run(pg_ctl, "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_installed() -> bool:
    """Return whether there are the programs of a server."""
    return find_program("initdb") is not None


def find_program(program: str) -> str | None:
    places = os.pathsep.join([os.environ.get("PATH", ""), *map(str, _PROGRAMS)])
    return shutil.which(program, path=places)
