"""A new project, as Django's own command makes it."""

from __future__ import annotations

from pathlib import Path

from django.core.management import call_command

# Django's reloader looks at the files once in so many seconds.
LOOK_OFTEN = """
from django.utils import autoreload

autoreload.StatReloader.SLEEP_TIME = 0.1
"""


def make_project(folder: Path) -> Path:
    """Make ``mysite`` in a new folder; return the folder."""
    folder.mkdir()
    call_command("startproject", "mysite", str(folder))
    return folder


def add_settings(project: Path, *lines: str) -> None:
    """Write lines to the end of a project's settings."""
    with (project / "mysite" / "settings.py").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
