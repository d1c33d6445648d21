"""Pages that repeat what the code knows."""

from __future__ import annotations

import re
from pathlib import Path

from djserve.protocols.http1.response import EXTENSIONS as BY_VERSION
from djserve.protocols.http2.stream import EXTENSIONS_WITH_PUSH as HTTP2
from djserve.server.lifecycle import ExitCode
from djserve.supervisor.signals import HANDLED

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"

# As a command, and as a line of a requirements.txt.
BY_NAME = re.compile(
    r"""^djserve\[\w+\]$|pip install [^\n]*(?<=[ "'])djserve\b""", re.M
)


def test_each_extension_has_a_row() -> None:
    text = (REFERENCE / "asgi.md").read_text("utf-8")

    offered = {*BY_VERSION["1.1"], *HTTP2}
    assert len(offered) == 5
    assert [name for name in sorted(offered) if f"| `{name}`" not in text] == []


def test_each_page_that_installs_by_name_says_that_there_is_no_release() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    found = [
        page
        for page in pages
        # Decisions are of a past day, whatever is released.
        if page.parent.name != "decisions" and BY_NAME.search(page.read_text("utf-8"))
    ]

    assert len(found) > 10
    for page in found:
        assert "There is no release yet" in page.read_text("utf-8"), page.name


def test_each_signal_and_exit_code_has_a_row() -> None:
    text = (REFERENCE / "signals.md").read_text("utf-8")
    names = [getattr(each, "name", str(each)) for each in HANDLED]
    names.remove("SIGCHLD")

    assert [name for name in names if f"`{name}`" not in text] == []
    assert re.findall(r"^\| (\d) \|", text, re.MULTILINE) == [
        str(int(code)) for code in sorted(ExitCode)
    ]
