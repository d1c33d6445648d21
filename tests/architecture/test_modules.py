"""The shape of each module: its docstring, its length, the test module beside it."""

from __future__ import annotations

import ast
import io
import tokenize
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "djserve"
TESTS = ROOT / "tests"
CODE_LINE_LIMIT = 500
"""Lines of a module that hold code; docstrings, comments and blank lines are free."""

MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

WITHOUT_TEST_MODULE = {
    "__main__.py": "one call of cli.main, which the test of the wheel runs",
    "asgi/types.py": "type aliases only",
    "doctor/__main__.py": "one call of command.main, which its test runs",
    "interfaces.py": "method signatures without code",
}

BESIDE_THE_MIRROR = (
    "architecture",
    "benchmarks",
    "conformance",
    "faults",
    "demo",
    "django_suite",
    "docs",
    "e2e",
    "ecosystem",
    "fuzz",
    "support",
)
"""Folders of tests that belong to no single module."""

WITHOUT_SOURCE_MODULE = {
    "test_wheel.py": "tests the built distribution",
}


@cache
def read_tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text())


def is_plain_package(module: str) -> bool:
    """Tell an __init__.py that holds a docstring, imports and constants only."""
    if not module.endswith("__init__.py"):
        return False
    body = read_tree(module).body
    code = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return not any(isinstance(node, code) for node in body)


def code_lines(source: str) -> set[int]:
    """Return the numbers of the lines that hold code."""
    layout = {
        tokenize.COMMENT,
        tokenize.DEDENT,
        tokenize.ENCODING,
        tokenize.ENDMARKER,
        tokenize.INDENT,
        tokenize.NEWLINE,
        tokenize.NL,
    }
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in layout
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(source)):
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            for statement in statements if isinstance(statements, list) else []:
                if _is_bare_string(statement):
                    lines -= set(range(statement.lineno, statement.end_lineno + 1))
    return lines


def _is_bare_string(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def mirror_of(module: str) -> str:
    path = Path(module)
    if module == "__init__.py":
        return "test_package.py"
    if path.name == "__init__.py":
        return (path.parent.parent / f"test_{path.parent.name}.py").as_posix()
    return (path.parent / f"test_{path.name.strip('_')}").as_posix()


def test_each_module_has_a_docstring() -> None:
    assert [name for name in MODULES if not ast.get_docstring(read_tree(name))] == []


def test_each_module_is_short_enough_to_read() -> None:
    lengths = {name: len(code_lines((PACKAGE / name).read_text())) for name in MODULES}

    assert {name: n for name, n in lengths.items() if n > CODE_LINE_LIMIT} == {}


def test_code_lines_leave_out_docstrings_comments_and_blank_lines() -> None:
    source = '"""Two\nlines."""\n\nx = 1  # one\n"""x"""\n# A remark.\ny = (2\n)\n'

    assert code_lines(source) == {4, 7, 8}


def test_each_module_has_its_own_test_module() -> None:
    modules = [name for name in MODULES if not is_plain_package(name)]
    found = {path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py")}
    lacking = {name for name in modules if mirror_of(name) not in found}

    assert len(modules) > 200
    assert lacking == WITHOUT_TEST_MODULE.keys()


def test_each_test_module_mirrors_a_source_module() -> None:
    mirrored = {mirror_of(module) for module in MODULES}
    found = {path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    strays = [
        path.as_posix()
        for path in sorted(found)
        if path.parts[0] not in BESIDE_THE_MIRROR
        and path.as_posix() not in mirrored | WITHOUT_SOURCE_MODULE.keys()
    ]

    assert strays == []
