"""Run the tests of the packages, and print and keep the table of what they found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

from tests.conftest import ROOT

RESULTS = Path(os.environ.get("ECOSYSTEM_RESULTS", ROOT / "build" / "ecosystem"))
HEAD = [
    "Package",
    "Version",
    "What is counted",
    "Counts",
    "Under Uvicorn",
    "Verdict",
    "Handler",
    "Lanes",
]


def main(arguments: list[str]) -> int:
    shutil.rmtree(RESULTS, ignore_errors=True)
    command = [sys.executable, "-m", "pytest", str(Path(__file__).parent), *arguments]
    environment = {**os.environ, "ECOSYSTEM_RESULTS": str(RESULTS)}
    code = subprocess.run(command, cwd=ROOT, env=environment).returncode
    rows = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    table = write_table(rows)
    (RESULTS / "table.md").write_text(table)
    print(table)
    return code


def write_table(rows: list[dict[str, Any]]) -> str:
    """Return the table as Markdown."""
    lines = [" | ".join(HEAD), " | ".join("---" for _ in HEAD)]
    for row in rows:
        cells = [
            row["package"],
            row["version"],
            row["counted"],
            _counts(row["djserve"]),
            "the same" if row["uvicorn"] == row["djserve"] else _counts(row["uvicorn"]),
            row["verdict"],
            row["handler"],
            # Half of the views of a project are synchronous, half are not.
            "both" if row["handler"].startswith("djserve") else "none",
        ]
        lines.append(" | ".join(cells))
    tried = f"Python {python_version()}, Django {version('django')}\n\n"
    return tried + "".join(f"| {line} |\n" for line in lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
