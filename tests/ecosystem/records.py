"""The file that a server's process writes records to, and that the test reads."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.ecosystem.package import folder

NAME = "records.jsonl"


def record(kind: str, right: str, seen: Any) -> None:
    """Write that something of a user's request carries the names in ``seen``.

    ``seen`` is a name or several; each must be ``right``, and there must be one.
    """
    line = json.dumps({"kind": kind, "right": right, "seen": seen}) + "\n"
    # One write in append mode: lines of threads and processes do not mix.
    handle = os.open(folder() / NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def read_records(place: Path) -> list[dict[str, Any]]:
    path = place / NAME
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]
