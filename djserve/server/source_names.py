"""What a module binds, read from its source: it is not imported."""

from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec

# What a module may bind further names by.
_DYNAMIC = frozenset(
    {"__getattr__", "globals", "locals", "vars", "exec", "setattr", "modules"}
)


def read_names(spec: ModuleSpec) -> set[str] | None:
    """Return the names that a module binds; None if only its import would show them."""
    module = sys.modules.get(spec.name)
    if module is not None:
        return None if hasattr(module, "__getattr__") else set(vars(module))
    if spec.origin is None or not spec.origin.endswith(".py"):
        return None
    try:
        with open(spec.origin, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        # Its import tells more.
        return None
    names: set[str] = set()
    for name in _find_names(tree):
        if name == "*" or name in _DYNAMIC:
            return None
        names.add(name)
    # What belongs to a package may be a module in it.
    return None if spec.submodule_search_locations is not None else names


def _find_names(tree: ast.AST) -> Iterator[str]:
    """Yield names that are bound, and those that let a module bind any other.

    Functions' and classes' own names count as well: rather one too many.
    """
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    yield alias.asname or alias.name.partition(".")[0]
            case ast.Name(ctx=ast.Store()):
                yield node.id
            case ast.Name() if node.id in _DYNAMIC:
                yield node.id
            case ast.Attribute() if node.attr in _DYNAMIC or node.attr == "__dict__":
                yield "*"
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar():
                yield from [node.name] if node.name else []
            case ast.MatchMapping():
                yield from [node.rest] if node.rest else []
