"""docs/reference/stability.md lists every public name, and no other."""

from __future__ import annotations

import argparse
import ast
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import django
import pytest

import djserve
from djserve import channels, control, handlers
from djserve.cli import build_parser
from djserve.conf.catalogue import settings_by_key
from djserve.conf.suggestions import _flags_of
from djserve.instrumentation.board import Board
from djserve.instrumentation.figures import read_figures
from djserve.instrumentation.metrics import render
from djserve.server.lifecycle import ExitCode
from djserve.supervisor.signals import HANDLED

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "djserve"
PAGE = ROOT / "docs" / "reference" / "stability.md"

DJANGO_FLAGS = {
    "--force-color",
    "--no-color",
    "--pythonpath",
    "--settings",
    "--skip-checks",
    "--traceback",
    # Those of its runserver.
    "--insecure",
    "--ipv6",
    "--noreload",
    "--nostatic",
    "--nothreading",
    "-6",
}
"""Flags of each of Django's commands: its own to change."""


def find_testing_names() -> list[str]:
    """Return the public classes and functions, each under its module."""
    return sorted(
        f"{path.stem}.{node.name}"
        for path in (PACKAGE / "testing").glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and not node.name.startswith(("_", "pytest_"))
    )


def find_flags() -> list[str]:
    from djserve.management.commands import runasgi, runserver

    controlling = argparse.ArgumentParser()
    control.add_commands(controlling, "")
    parsers: list[argparse.ArgumentParser] = [
        build_parser(),
        runasgi.Command().create_parser("manage.py", "runasgi"),
        runserver.Command().create_parser("manage.py", "runserver"),
        controlling,
    ]
    flags = {flag for each in parsers for flag in _flags_of(each)}
    return sorted(flags - DJANGO_FLAGS)


def find_metrics() -> list[str]:
    board = Board()
    board.set_views({"view": (1, 1)})
    figures = read_figures([("1", board)], processes=[("name", 1, 0)])
    text = render(figures).decode()
    board.close()
    return re.findall(r"^# TYPE (djserve_\w+)", text, re.M)


def find_loggers() -> list[str]:
    sources = (path.read_text() for path in PACKAGE.rglob("*.py"))
    pattern = r'getLogger\("(djserve[\w.]*)"\)'
    return sorted({name for text in sources for name in re.findall(pattern, text)})


def find_checks() -> list[str]:
    sources = (path.read_text() for path in PACKAGE.rglob("*.py"))
    pattern = r'\bid="(djserve\.[EWI]\d{3})"'
    return sorted({name for text in sources for name in re.findall(pattern, text)})


def find_signals() -> list[str]:
    # Children that end are told to the supervisor by the system alone.
    return [number.name for number in HANDLED if number.name != "SIGCHLD"]


def find_commands() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    modules = (PACKAGE / "management" / "commands").glob("[!_]*.py")
    return [
        *sorted(project["scripts"]),
        *sorted(f"manage.py {path.stem}" for path in modules),
    ]


NAMES: dict[str, Callable[[], list[str]]] = {
    "Python: djserve": lambda: sorted(djserve.__all__),
    "Python: djserve.handlers": lambda: sorted(handlers.__all__),
    "Python: djserve.channels": lambda: sorted(channels.__all__),
    "Python: djserve.testing": find_testing_names,
    "Settings": lambda: sorted(settings_by_key()),
    "Flags": find_flags,
    "Metrics": lambda: sorted(set(find_metrics())),
    "Loggers": find_loggers,
    "Checks": find_checks,
    "Exit codes": lambda: [str(code.value) for code in ExitCode],
    "Signals": find_signals,
    "Commands": find_commands,
}


SECTION = re.compile(r"^## (.+)\n\n((?:.+\n)+)(?:\n((?:`.*\n)*))?", re.M)
"""A heading, a paragraph of what stays, and the names."""


def read_names() -> dict[str, list[str]]:
    """Return the names of each section."""
    page = PAGE.read_text(encoding="utf-8")
    return {
        match[1]: re.findall(r"`([^`]+)`", match[3] or "")
        for match in SECTION.finditer(page)
    }


def write_names() -> None:
    """Put the names into the page; what is said of them stays."""

    def fill(match: re.Match[str]) -> str:
        names = [f"`{name}`" for name in NAMES[match[1]]()]
        lines = [
            ", ".join(names[start : start + 6]) for start in range(0, len(names), 6)
        ]
        text = ",\n".join(lines)
        return f"## {match[1]}\n\n{match[2]}\n{text}\n"

    page = SECTION.sub(fill, PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(page, encoding="utf-8")


def test_page_has_a_section_for_each_kind_of_name() -> None:
    assert list(read_names()) == [*NAMES]


@pytest.mark.parametrize("title", NAMES)
def test_page_lists_the_public_names(title: str) -> None:
    names = NAMES[title]()

    assert names
    write = "write them with python -m tests.architecture.test_stability"
    assert read_names()[title] == names, write


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")
    django.setup()
    write_names()
