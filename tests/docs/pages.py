"""What a page of the documentation gives to be pasted."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

_FILE = re.compile(r"^`(?P<path>[^`\n]+)`:\n\n```\w*\n(?P<text>.*?)^```$", re.M | re.S)


def read_files(page: Path) -> dict[str, str]:
    """Return the files of a page: each stands below a line that is its path."""
    text = page.read_text("utf-8")
    return {match["path"]: match["text"] for match in _FILE.finditer(text)}


def read_blocks(page: Path, language: str) -> list[str]:
    """Return the blocks of a language, without the indentation of a list."""
    pattern = rf"^( *)```{language}\n(.*?)^\1```$"
    blocks = re.findall(pattern, page.read_text("utf-8"), re.M | re.S)
    return [textwrap.dedent(text) for _, text in blocks]
