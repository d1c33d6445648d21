"""``python -m djserve.doctor``: look at a project that does not have djserve yet."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from djserve.doctor.files import find_manage
from djserve.doctor.report import describe_translation, examine
from djserve.doctor.translate import NoServer, translate
from djserve.doctor.words import Unreadable

DESCRIPTION = (
    "Say how djserve would serve a project that Daphne, Uvicorn or gunicorn serves "
    "now. Nothing is changed or started; Django's settings are imported."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 2 if a line cannot be translated."""
    parser = argparse.ArgumentParser(
        prog="python -m djserve.doctor", description=DESCRIPTION
    )
    parser.add_argument("folder", nargs="?", default=".", help="The project's folder.")
    add_arguments(parser)
    options = parser.parse_args(arguments)
    folder = Path(options.folder)
    try:
        text = run(folder, options.command_line, *_load_settings(folder))
        print(text, flush=True)
    except ValueError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # As in "... | head"; what is left must not fail at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``manage.py djserve doctor`` takes, too."""
    parser.add_argument(
        "--from",
        dest="command_line",
        metavar="COMMAND",
        help='A command line to translate, as in --from "gunicorn -w 4 mysite.wsgi".',
    )


def run(folder: Path, command_line: str | None, settings: Any, failure: str) -> str:
    """Return the report, or one command line's translation. Raises ValueError."""
    if command_line is None:
        return examine(folder, settings, failure)
    manage = find_manage(folder) or ("manage.py" if settings is not None else "")
    try:
        result = translate(command_line, folder=folder, manage=manage)
    except (NoServer, Unreadable) as error:
        raise ValueError(str(error)) from None
    return describe_translation(result)


def _load_settings(folder: Path) -> tuple[Any, str]:
    """Return Django's settings, or None and why there are none."""
    manage = folder / (find_manage(folder) or "manage.py")
    name = os.environ.get("DJANGO_SETTINGS_MODULE") or _find_settings(manage)
    if not name:
        return None, _name_projects_below(folder)
    os.environ["DJANGO_SETTINGS_MODULE"] = name
    sys.path.insert(0, str(manage.parent.resolve()))
    try:
        from django.conf import settings

        settings.INSTALLED_APPS  # noqa: B018 # they are read at the first use
    # A stranger's settings may fail in any way, SystemExit included.
    except (Exception, SystemExit) as error:
        return None, f"{name}: {type(error).__name__}: {error}"
    try:
        import django

        # Middleware may import models.
        django.setup()
    except (Exception, SystemExit) as error:
        return settings, f"INSTALLED_APPS: {type(error).__name__}: {error}"
    return settings, ""


def _name_projects_below(folder: Path) -> str:
    """Return what to do for the settings of several projects, "" without any."""
    found = sorted(path.parent.name for path in folder.glob("*/manage.py"))
    if len(found) < 2:
        return ""
    return f"manage.py in {', '.join(found)}: python -m djserve.doctor takes one folder"


def _find_settings(manage: Path) -> str:
    """Return the settings that manage.py names."""
    try:
        text = manage.read_text("utf-8", "replace")
    except OSError:
        return ""
    match = re.search(
        r"DJANGO_SETTINGS_MODULE['\"]\s*(?:,|\]\s*=)\s*['\"]([\w.]+)", text
    )
    return match[1] if match else ""
