"""The benchmarks' own virtual environment, with the peers in it.

This module runs before anything is installed: it needs the standard library alone.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENTERED = "DJSERVE_BENCH_ENTERED"


def folder() -> Path:
    return Path(os.environ.get("BENCH_VENV", ROOT / ".venv-bench"))


def enter(arguments: list[str], *, upgrade: bool = False) -> None:
    """Go on with ``python -m benchmarks`` in that environment; returns if there."""
    if os.environ.get(ENTERED) == "1":
        return
    python = ensure(folder(), upgrade=upgrade)
    command = [str(python), "-m", "benchmarks", *arguments]
    os.environ[ENTERED] = "1"
    os.chdir(ROOT)
    os.execv(command[0], command)


def ensure(target: Path, *, upgrade: bool) -> Path:
    """Create the environment if need be, install what changed; return its Python."""
    python = target / "bin" / "python"
    stamp = target / ".installed"
    # The program is there before pip is: making one may have been interrupted.
    if not (python.exists() and (target / "bin" / "pip").exists()):
        print(f"Making {target.name} with Python {sys.version.split()[0]}", flush=True)
        venv.create(target, with_pip=True)
    wanted = requirements_digest()
    if upgrade or not stamp.exists() or stamp.read_text() != wanted:
        print("Installing the servers to compare with", flush=True)
        install(python)
        stamp.write_text(wanted)
    return python


def install(python: Path) -> None:
    """Install the newest of all the benchmarks' requirements."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install"]
    command += ["--quiet", "--upgrade", "--upgrade-strategy", "eager"]
    command += ["-r", "requirements/bench.txt"]
    if subprocess.run(command, check=False, cwd=ROOT).returncode:
        sys.exit("The servers to compare with could not be installed")


def requirements_digest() -> str:
    """Return what changes when another requirement is written down."""
    files = [ROOT / "pyproject.toml", *sorted((ROOT / "requirements").glob("b*.txt"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
