"""Check the spelling of the whole tree, and the words of docs, messages and docstrings.

The patterns stand in docs/contributing.md, under "Words", one a line: what to look for
in backquotes, then what to write instead. They are looked for in the documentation, and
in djserve's texts: help, log messages, errors and docstrings.

codespell checks the spelling; if it is not installed, that is an error in CI only.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "contributing.md"
PATTERN = re.compile(r"^- `(?P<pattern>[^`]+)`: (?P<advice>.+)$", re.MULTILINE)

# What has been released stays as it was written.
FINISHED = {"changelog.md"}

CHECKED = ("README.md", "Makefile", ".ci", "benchmarks", "demo_project", "deploy")
CHECKED += ("djserve", "docs")

Text = tuple[Path, int, str]
Patterns = dict[re.Pattern[str], str]


def read_patterns(page: str) -> Patterns:
    """Return what to look for, each with what to write instead."""
    section = page.partition("\n## Words\n")[2].partition("\n## ")[0]
    return {
        re.compile(match["pattern"], re.IGNORECASE): match["advice"]
        for match in PATTERN.finditer(section)
    }


def read_pages() -> Iterator[Text]:
    """Yield each line of the documentation, without code and the list of patterns."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if path.name in FINISHED:
            continue
        is_code = False
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            is_code ^= line.startswith("```")
            if not is_code and not (path == PAGE and PATTERN.match(line)):
                yield path, number, re.sub(r"`[^`]*`", "``", line)


def read_texts(folder: Path) -> Iterator[Text]:
    """Yield each string of a package's modules: messages, help and docstrings."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield path, node.lineno, node.value


def find_words(texts: Iterator[Text], patterns: Patterns) -> list[str]:
    """Return a line for each text that a pattern fits."""
    return [
        f"{path.relative_to(ROOT)}:{number + text[: match.start()].count(chr(10))}: "
        f"{match.group()!r}: {advice}"
        for path, number, text in texts
        for pattern, advice in patterns.items()
        for match in pattern.finditer(text)
    ]


def check_spelling() -> int:
    """Run codespell, with the settings of pyproject.toml."""
    if importlib.util.find_spec("codespell_lib") is None:
        print("codespell is not installed: the spelling was not checked")
        return int(bool(os.environ.get("CI")))
    command = [sys.executable, "-m", "codespell_lib", *CHECKED]
    return subprocess.run(command, cwd=ROOT).returncode


def main() -> int:
    patterns = read_patterns(PAGE.read_text("utf-8"))
    found = find_words(read_pages(), patterns)
    found += find_words(read_texts(ROOT / "djserve"), patterns)
    print("\n".join(found) or f"No word of {len(patterns)} patterns was found")
    return int(bool(found)) | check_spelling()


if __name__ == "__main__":
    sys.exit(main())
