"""The benchmarks' own virtual environments, of which one has the peers in it.

This module runs before anything is installed: it needs the standard library alone.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
ENTERED = "DJSERVE_BENCH_ENTERED"
WITH_PEERS = ("-r", "requirements/bench.txt")


def folder() -> Path:
    return Path(os.environ.get("BENCH_VENV", ROOT / ".venv-bench"))


def enter(arguments: list[str], *, upgrade: bool = False) -> None:
    """Go on with ``python -m benchmarks`` in that environment; returns if there."""
    if os.environ.get(ENTERED) == "1":
        return
    python = ensure(folder(), upgrade=upgrade)
    os.environ[ENTERED] = "1"
    restart(python, arguments)


def restart(python: Path, arguments: list[str]) -> NoReturn:
    """Go on with ``python -m benchmarks`` by this Python."""
    command = [str(python), "-m", "benchmarks", *arguments]
    os.chdir(ROOT)
    os.execv(command[0], command)


def ensure(
    target: Path, requirements: Sequence[str] = WITH_PEERS, *, upgrade: bool = False
) -> Path:
    """Create the environment if need be, install what changed; return its Python."""
    python = target / "bin" / "python"
    stamp = target / ".installed"
    # The program is there before pip is: making one may have been interrupted.
    if not (python.exists() and (target / "bin" / "pip").exists()):
        print(f"Making {target.name} with Python {sys.version.split()[0]}", flush=True)
        venv.create(target, with_pip=True)
    wanted = requirements_digest(requirements)
    if upgrade or not stamp.exists() or stamp.read_text() != wanted:
        print(f"Installing into {target.name}", flush=True)
        install(python, requirements)
        stamp.write_text(wanted)
    return python


def install(python: Path, requirements: Sequence[str]) -> None:
    """Install the newest that the requirements allow."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install"]
    command += ["--quiet", "--upgrade", "--upgrade-strategy", "eager"]
    command += requirements
    if subprocess.run(command, check=False, cwd=ROOT).returncode:
        sys.exit(f"Could not be installed: {' '.join(requirements)}")


def requirements_digest(requirements: Sequence[str]) -> str:
    """Return what changes when another requirement is written down."""
    files = [ROOT / "pyproject.toml", *sorted((ROOT / "requirements").glob("b*.txt"))]
    parts = [*(file.read_bytes() for file in files), *map(str.encode, requirements)]
    return hashlib.sha256(b"".join(parts)).hexdigest()
