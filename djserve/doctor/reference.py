"""The tables of flags in docs/guides, made from the doctor's rules.

``python -m djserve.doctor.reference`` prints them, ``--write`` puts them into their
pages, and ``--check`` fails if a page says something else.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from djserve.doctor.rules import FlagRule, Kind, KnownServer
from djserve.doctor.translate import SERVERS

FOLDER = Path("docs/guides")

_FLAG = re.compile(r"(?<![\w`-])(--?[a-z][\w-]*|[A-Z]+_[A-Z_]+|DJSERVE_\w+=\w+)")


def render(server: KnownServer) -> str:
    """Return a server's flags as a table, and what differs by default as a list."""
    lines = ["| Flag | Setting | In djserve |", "| --- | --- | --- |"]
    lines += [_render_rule(rule) for rule in server.rules]
    return "\n".join(lines)


def render_flags(server: KnownServer) -> str:
    """Return the table of a server without a configuration file."""
    lines = ["| Flag | In djserve |", "| --- | --- |"]
    lines += [f"| {_flags(rule)} | {_becomes(rule)} |" for rule in server.rules]
    return "\n".join(lines)


def _render_rule(rule: FlagRule) -> str:
    name = f"`{rule.name}`" if rule.name else ""
    return f"| {_flags(rule)} | {name} | {_becomes(rule)} |"


def _flags(rule: FlagRule) -> str:
    return ", ".join(f"`{flag}`" for flag in rule.flags)


def _becomes(rule: FlagRule) -> str:
    note = _mark_flags(rule.note).replace("|", r"\|")
    if rule.kind is Kind.TRANSLATED:
        return f"{rule.becomes}. {note}".strip() if note else rule.becomes
    return f"{rule.kind.value.capitalize()}. {note}"


def _mark_flags(text: str) -> str:
    return _FLAG.sub(r"`\1`", text)


def replace_table(page: str, server: KnownServer) -> str:
    """Return a page with the server's table and list between their marks."""
    table = render(server) if server.has_file else render_flags(server)
    differences = "\n".join(f"- {_mark_flags(each)}" for each in server.defaults)
    for mark, text in (("flags", table), ("differences", differences)):
        begin = re.search(rf"<!-- {mark}: begin [^\n]*-->\n", page)
        end = page.find(f"<!-- {mark}: end -->")
        if begin is not None and end > 0:
            page = f"{page[: begin.end()]}\n{text}\n\n{page[end:]}"
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m djserve.doctor.reference")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="write the pages")
    action.add_argument("--check", action="store_true", help="compare the pages")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="their folder")
    options = parser.parse_args(arguments)
    wrong = []
    for server in SERVERS.values():
        path = options.folder / server.guide
        text = path.read_text("utf-8")
        expected = replace_table(text, server)
        if options.write:
            path.write_text(expected, "utf-8")
        elif options.check and text != expected:
            wrong.append(str(path))
        elif not options.check:
            print(expected)
    for name in wrong:
        print(f"{name} is not what the rules say: --write it", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
