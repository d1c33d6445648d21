"""A server's configuration file, read without running it.

It is a Python program, TOML or uWSGI's ini. What the program assigns as a constant is
known, what it computes is not; a hook is a function. Nothing of it is executed.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """One key: its values as text, or None with the source if it is computed."""

    name: str
    values: tuple[str, ...] | None
    source: str
    line: int


def read_config(path: Path) -> list[Entry]:
    """Return what the file sets. Raises OSError, ValueError or SyntaxError."""
    if path.suffix == ".toml":
        return _read_toml(path.read_text("utf-8", "replace"))
    if path.suffix == ".ini":
        return _read_ini(path.read_text("utf-8", "replace"))
    entries: dict[str, Entry] = {}
    constants: dict[str, object] = {}
    for node in ast.parse(path.read_text("utf-8", "replace")).body:
        for name, value in _assigned(node):
            constants[name] = found = _evaluate(value, constants)
            source = ast.unparse(value)
            values = _texts(found)
            entries[name] = Entry(name, values, source, node.lineno)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            source = f"def {node.name}"
            entries[node.name] = Entry(node.name, None, source, node.lineno)
    return list(entries.values())


def _read_toml(text: str) -> list[Entry]:
    return [
        Entry(name, _texts(value), repr(value), 0)
        for name, value in tomllib.loads(text).items()
    ]


def _read_ini(text: str) -> list[Entry]:
    """Read the section that uWSGI reads; a key that stands there twice has both values.

    ``%(name)`` is what was set before, ``$(NAME)`` a variable of the environment.
    """
    entries: dict[str, Entry] = {}
    section = "uwsgi"
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            section = stripped.strip("[]")
        key, equals, value = (part.strip() for part in stripped.partition("="))
        if section != "uwsgi" or not equals or stripped[0] in "#;[":
            continue
        for known, entry in entries.items():
            value = value.replace(f"%({known})", (entry.values or ("",))[-1])
        value = re.sub(r"\$\((\w+)\)", r"${\1}", value)
        before = entries[key].values or () if key in entries else ()
        entries[key] = Entry(key, (*before, value), value, number)
    return list(entries.values())


def _assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
    elif (
        isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.value is not None
    ):
        yield node.target.id, node.value


def _evaluate(node: ast.expr, constants: dict[str, object]) -> object:
    """Return a constant's value, ... if it is computed."""
    if isinstance(node, ast.Name):
        return constants.get(node.id, ...)
    try:
        value: object = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ...
    return value


def _texts(value: object) -> tuple[str, ...] | None:
    """Return the values as the command line has them; () turns a switch off."""
    if value is ...:
        return None
    if value is None or value is False:
        return ()
    if value is True:
        return ("",)
    if isinstance(value, list | tuple | set):
        return tuple(map(str, value))
    return (str(value),)
