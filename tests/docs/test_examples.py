"""The examples in the documentation: Python that compiles, data that can be read."""

from __future__ import annotations

import ast
import json
import re
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def compile_example(text: str) -> None:
    """Compile an example, which may await, or be the inside of a dictionary."""
    if text.startswith('"'):
        text = f"{{{text}}}"
    compile(text, "example", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


READERS: dict[str, Callable[[str], object]] = {
    "python": compile_example,
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
}

EXAMPLES = [
    pytest.param(match[2], textwrap.dedent(match[3]), id=f"{page.stem}-{number}")
    for page in PAGES
    for number, match in enumerate(BLOCK.finditer(page.read_text("utf-8")))
    if match[2] in READERS
]


@pytest.mark.parametrize(("language", "text"), EXAMPLES)
def test_example_can_be_read(language: str, text: str) -> None:
    READERS[language](text)


def test_examples_are_found() -> None:
    assert len(EXAMPLES) > 30
