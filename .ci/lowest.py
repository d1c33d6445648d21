"""Print pip's constraints for the lowest versions that pyproject.toml declares.

What djserve and its optional features name directly is pinned to the series of its
lower bound (1.2.* for >=1.2); pip chooses the rest. ``make test-lowest`` uses these.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# These are for working on djserve, not for using it.
TOOLS = {"bench", "dev", "docs", "test"}

REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[[\w,-]+\])?>=(?P<lowest>[\w.]+)")


def find_lowest(project: dict[str, object]) -> dict[str, str]:
    """Return the lowest version of each package that users may have installed."""
    groups: dict[str, list[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    required: list[str] = project["dependencies"]  # type: ignore[assignment]
    texts = [*required]
    for name, group in groups.items():
        texts += [] if name in TOOLS else group
    lowest: dict[str, str] = {}
    for text in texts:
        match = REQUIREMENT.match(text)
        if match is None:
            raise ValueError(f"A requirement without a lower bound: {text!r}")
        lowest[match["name"].lower()] = match["lowest"]
    return lowest


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for name, version in sorted(find_lowest(project).items()):
        print(f"{name}=={version}.*")


if __name__ == "__main__":
    main()
