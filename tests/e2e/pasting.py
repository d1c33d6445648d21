"""A page of commands and files, followed in a file tree of its own.

What is put on: the tree's paths for the machine's, nobody's ownership, no network for
pip, and no service manager.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "open-the-example-door"

_BLOCK = re.compile(r"^ *```(?P<language>\w+)\n(?P<text>.*?)^ *```", re.S | re.M)
_PATH = re.compile(r"`(/[\w./]+)`")


class Tree:
    """A file tree that stands for a machine; ``project`` is its folder in /srv."""

    def __init__(self, folder: Path, project: str) -> None:
        self.folder = folder
        bin_folder = f"srv/{project}/venv/bin"
        # A command of the tree, and what it does here.
        stubs = {
            "bin/systemctl": "exit 0",
            "bin/usermod": "exit 0",
            "bin/chown": "exit 0",
            "bin/python3": 'case "$2" in venv) exit 0;; esac; exec {python} "$@"',
            f"{bin_folder}/pip": "exit 0",
            f"{bin_folder}/django-admin": 'exec {python} -m django "$@"',
            f"{bin_folder}/python": (
                'case "$2" in createsuperuser) set -- "$@" --no-input;; esac; '
                'exec {python} "$@"'
            ),
        }
        for name, script in stubs.items():
            stub = folder / name
            stub.parent.mkdir(parents=True, exist_ok=True)
            text = script.replace("{python}", shlex.quote(sys.executable))
            stub.write_text(f"#!/bin/sh\n{text}\n")
            stub.chmod(0o755)
        (folder / "etc" / "systemd" / "system").mkdir(parents=True)

    def moved(self, text: str) -> str:
        """Return a text with the machine's absolute paths in this tree."""
        return re.sub(r"(?<![\w.])(/(?:srv|etc|run)/)", rf"{self.folder}\1", text)

    def follow(self, page: str) -> str:
        """Do what a page says and return what was printed.

        A block that is no command is a file, of the path that was named last.
        """
        script = ["set -ex"]
        for block in _BLOCK.finditer(page):
            text = self.moved(textwrap.dedent(block["text"]))
            if block["language"] == "sh":
                # Each step begins where the checkout is.
                script += [f"cd {ROOT}", text]
            else:
                path = self.moved(_PATH.findall(page, 0, block.start())[-1])
                script += [f"cat > {path} <<'END'", f"{text}END"]
        result = subprocess.run(
            ["bash", "-c", "\n".join(script)],
            env={
                **self.clean_environment(),
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "DJANGO_SUPERUSER_USERNAME": "root",
                "DJANGO_SUPERUSER_EMAIL": "root@example.com",
                "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
            },
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    def read_unit(self, name: str) -> dict[str, str]:
        """Return a unit's settings, the last of those that are given twice."""
        text = (self.folder / "etc" / "systemd" / "system" / name).read_text()
        return dict(re.findall(r"^(\w+)=(.*)$", text.replace("\\\n", " "), re.M))

    def clean_environment(self) -> dict[str, str]:
        """Return what a service finds in its environment."""
        return {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
