"""Pages that repeat what the code knows."""

from __future__ import annotations

import re
from pathlib import Path

from djserve.protocols.http1.response import _EXTENSIONS as HTTP1
from djserve.protocols.http2.stream import _EXTENSIONS_WITH_PUSH as HTTP2
from djserve.server.lifecycle import ExitCode
from djserve.supervisor.signals import HANDLED

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"


def test_each_extension_has_a_row() -> None:
    text = (REFERENCE / "asgi.md").read_text("utf-8")

    assert [name for name in HTTP1 | HTTP2 if f"| `{name}`" not in text] == []


def test_each_signal_and_exit_code_has_a_row() -> None:
    text = (REFERENCE / "signals.md").read_text("utf-8")
    names = [getattr(each, "name", str(each)) for each in HANDLED]
    names.remove("SIGCHLD")

    assert [name for name in names if f"`{name}`" not in text] == []
    assert re.findall(r"^\| (\d) \|", text, re.MULTILINE) == [
        str(int(code)) for code in sorted(ExitCode)
    ]
