"""The shape of each module: its docstring, its length, the test module beside it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "djserve"
TESTS = ROOT / "tests"
LINE_LIMIT = 350

MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

WITHOUT_TEST_MODULE = {
    "__main__.py": "one call of cli.main, which the test of the wheel runs",
    "asgi/types.py": "type aliases only",
    "interfaces.py": "method signatures without code",
}

BESIDE_THE_MIRROR = (
    "architecture",
    "benchmarks",
    "demo",
    "django_suite",
    "e2e",
    "fuzz",
)
"""Folders of tests that belong to no single module."""

WITHOUT_SOURCE_MODULE = {
    "test_wheel.py": "tests the built distribution",
}


def is_plain_package(module: str) -> bool:
    """Tell an __init__.py that holds a docstring, imports and constants only."""
    if not module.endswith("__init__.py"):
        return False
    body = ast.parse((PACKAGE / module).read_text()).body
    code = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return not any(isinstance(node, code) for node in body)


def mirror_of(module: str) -> str:
    path = Path(module)
    if path.name == "__init__.py":
        return (path.parent.parent / f"test_{path.parent.name}.py").as_posix()
    return (path.parent / f"test_{path.name.strip('_')}").as_posix()


@pytest.mark.parametrize("module", MODULES)
def test_module_has_a_docstring(module: str) -> None:
    assert ast.get_docstring(ast.parse((PACKAGE / module).read_text()))


@pytest.mark.parametrize("module", MODULES)
def test_module_is_short_enough_to_read(module: str) -> None:
    lines = len((PACKAGE / module).read_text().splitlines())

    assert lines <= LINE_LIMIT


@pytest.mark.parametrize("module", MODULES)
def test_module_has_its_own_test_module(module: str) -> None:
    if module in WITHOUT_TEST_MODULE or is_plain_package(module):
        return
    assert (TESTS / mirror_of(module)).is_file()


@pytest.mark.parametrize("module", sorted(WITHOUT_TEST_MODULE))
def test_excuse_for_a_missing_test_module_is_still_needed(module: str) -> None:
    assert (PACKAGE / module).is_file()
    assert not (TESTS / mirror_of(module)).exists()


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
