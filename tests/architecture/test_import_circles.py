"""Circles among djserve's modules, by all imports: type-only and delayed ones too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

Graph = dict[str, set[str]]


def read_imports(package: Path) -> Graph:
    """Return which modules of a package each of its modules names in an import."""
    files = {_name_of(package, path): path for path in sorted(package.rglob("*.py"))}
    return {
        name: {
            found
            for target in _targets(ast.parse(path.read_text("utf-8")))
            if (found := _module_of(target, files)) not in (None, name)
        }
        for name, path in files.items()
    }


def _name_of(package: Path, path: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _targets(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _module_of(target: str, files: dict[str, Path]) -> str | None:
    """Return the module that holds what an import names, None for other packages."""
    if target in files:
        return target
    parent = target.rpartition(".")[0]
    return parent if parent in files else None


def find_circles(graph: Graph) -> set[frozenset[str]]:
    """Return the sets of modules in which each leads to each other."""
    reached = {name: _reach(graph, name) for name in graph}
    circles = {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in graph
    }
    return {circle for circle in circles if circle}


def _reach(graph: Graph, start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        for name in graph[waiting.pop()] - reached:
            reached.add(name)
            waiting.append(name)
    return reached


def test_no_module_leads_back_to_itself() -> None:
    circles = find_circles(read_imports(ROOT / "djserve"))

    assert circles == set()


def test_imports_for_types_alone_and_in_functions_count(tmp_path: Path) -> None:
    package = tmp_path / "made"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("import os")
    (package / "inner" / "__init__.py").write_text("")
    (package / "a.py").write_text("if TYPE_CHECKING:\n    from made.inner.b import B")
    (package / "inner" / "b.py").write_text("def f():\n    from made import c")
    (package / "c.py").write_text("import made.a, made.d")
    (package / "d.py").write_text("from made.inner.b import B")

    assert find_circles(read_imports(package)) == {
        frozenset({"made.a", "made.c", "made.d", "made.inner.b"})
    }
