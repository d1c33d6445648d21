"""This interpreter and its packages where every user may read them.

An interpreter or an environment in a folder of root's own can serve nobody else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
UNUSED = ("playwright", "mypy", "hypothesis", "matplotlib")


def open_interpreter(folder: Path, user: str) -> Path:
    """Return this interpreter, or a copy in the folder where it is hidden from a user.

    A shared library of it is found through LD_LIBRARY_PATH, in ``lib`` beside ``bin``.
    """
    python = Path(os.path.realpath(sys.executable))
    try:
        subprocess.run([python, "-c", ""], user=user, check=True)
    except PermissionError:
        library = Path(sysconfig.get_path("stdlib"))
        _link(library, folder / "lib" / library.name, "test", "site-packages")
        for shared in library.parent.glob("libpython*.so*"):
            shutil.copy2(shared, folder / "lib")
        (folder / "bin").mkdir()
        python = Path(shutil.copy2(python, folder / "bin"))
    return python


def open_packages(folder: Path) -> None:
    """Put djserve and what is installed beside it into the folder."""
    found = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    # One environment may read another's packages.
    found |= {path for path in sys.path if Path(path).name == "site-packages"}
    for path in sorted(found):
        _link(Path(path), folder)
    _link(ROOT / "djserve", folder / "djserve")


def start_for(
    user: str,
    start_server: Callable[..., Any],
    folder: Path,
    port: int,
    *options: str,
    env: Mapping[str, str] | None = None,
) -> Any:
    """Start ``app:application`` of a folder, with two workers of another user."""
    open_packages(folder / "packages")
    server = start_server(
        *("-m", "djserve", "app:application", "--workers", "2", "--user", user),
        *("--bind", f"127.0.0.1:{port}"),
        *options,
        python=str(open_interpreter(folder / "python", user)),
        port=port,
        cwd=folder,
        env={
            "DJANGO_SETTINGS_MODULE": "",
            "LD_LIBRARY_PATH": str(folder / "python" / "lib"),
            "PYTHONPATH": str(folder / "packages"),
            **(env or {}),
        },
    )
    server.wait_for("Supervisor")
    return server


def _link(source: Path, target: Path, *unused: str) -> None:
    def link(old: str, new: str) -> None:
        try:
            os.link(old, new)
        except FileExistsError:
            pass
        except OSError:
            shutil.copy2(old, new)

    ignored = shutil.ignore_patterns(*UNUSED, *unused)
    shutil.copytree(
        source, target, copy_function=link, ignore=ignored, dirs_exist_ok=True
    )
