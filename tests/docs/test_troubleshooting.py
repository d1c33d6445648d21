"""The texts of docs/guides/troubleshooting.md stand in the code."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "guides" / "troubleshooting.md"
TEXTS = re.findall(r"^### `(.+)`$", PAGE.read_text("utf-8"), re.MULTILINE)
FIELD = re.compile(r"%[-.\d]*[a-z]")


@cache
def find_messages() -> str:
    """Return every string of the package, its placeholders written as dots."""
    messages = []
    for path in (ROOT / "djserve").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    str(part.value) if isinstance(part, ast.Constant) else "…"
                    for part in node.values
                ]
                messages.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                messages.append(FIELD.sub("…", node.value))
    return "\n".join(messages)


@pytest.mark.parametrize("text", TEXTS)
def test_text_stands_in_the_code(text: str) -> None:
    # Quotes come with the placeholder (!r).
    wanted = re.sub(r"'…'", "…", text)

    assert wanted.removesuffix("…") in find_messages()


def test_texts_are_found() -> None:
    assert len(TEXTS) > 15
