"""Commit every fault: ``python -m tests.faults [--write] [words of a row's name]``.

Prints a table in Markdown; ``--write`` puts it into docs/reference/faults.md, in
which rows that were not run stay as they are. The exit code is 1 if an expectation
failed.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.faults.bench import Bench
from tests.faults.table import ROWS, Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "faults.md"
MARK = "<!-- Results: python -m tests.faults --write -->\n"
AT_A_TIME = 8
LEVELS = r"(?:WARNING|ERROR|CRITICAL)\s+(.*)|(?:^|\n)(?:djserve|Error): (.*)"


class Result(NamedTuple):
    """What came of one row; ``failure`` is "" where all was as expected."""

    row: Row
    seen: str
    log: str
    seconds: float
    failure: str


def run_row(row: Row) -> Result:
    """Commit one fault and judge what came of it."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        bench = Bench(Path(folder))
        failure = ""
        try:
            row.act(bench)
            failure = judge(row, bench)
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
        # The end of the bench is no part of the row.
        seen = ", ".join(sorted(bench.seen)) or "200"
        seconds = bench.recovery
        bench.close()
        log = summarise(row, bench.log, folder)
        if not __name__.startswith("tests."):
            print(f"{row.group}: {row.name}: {failure or 'as expected'}", flush=True)
        return Result(row, seen, log, seconds, failure)


def judge(row: Row, bench: Bench) -> str:
    """Return what is not as the row expects, "" where nothing is."""
    others = set(bench.seen) - {"200", *row.sees}
    if others:
        return f"clients saw {others}"
    if row.log and not re.search(row.log, bench.log):
        return f"{row.log!r} is not in the log:\n{bench.log}"
    return ""


def summarise(row: Row, log: str, folder: str) -> str:
    """Return the first line that warns, else the one that the row expects."""
    lines = [line for line in log.splitlines() if re.search(LEVELS, line)]
    if not lines and row.log:
        lines = [line for line in log.splitlines() if re.search(row.log, line)]
    if not lines:
        return ""
    text = re.sub(r"^[-\d]+ [\d:,]+ ", "", lines[0]).replace(folder, "...")
    text = re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")
    return text if len(text) <= 120 else text[:117] + "..."


def write_table(results: list[Result]) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    yield "| | Fault | Clients saw | The log said first | Seconds |"
    yield "| --- | --- | --- | --- | --- |"
    for row, seen, log, seconds, failure in results:
        name = row.name if not failure else f"**{row.name}**"
        yield f"| {row.group} | {name} | {seen} | {log} | {seconds:.1f} |"


def update_table(old: str, new: str) -> str:
    """Return the old table with the new one's rows, in the order of ``ROWS``."""
    lines: dict[str, str] = {}
    for text in (old, new):
        for line in text.strip().splitlines()[2:]:
            # What a row is called; bold if it has failed.
            lines["|".join(line.split("|")[1:3]).replace("**", "")] = line
    order = [f" {row.group} | {row.name} " for row in ROWS]
    rows = [lines[name] for name in order if name in lines]
    return "\n".join([*new.splitlines()[:2], *rows]) + "\n"


def main() -> int:
    words = [word for word in sys.argv[1:] if word != "--write"]
    rows = [
        row for row in ROWS if all(word in row.name for word in words) and row.needs()
    ]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        results = list(pool.map(run_row, rows))
    table = "\n".join(write_table(results)) + "\n"
    print(table)
    failed = [result for result in results if result.failure]
    for result in failed:
        print(f"{result.row.group}, {result.row.name}: {result.failure}\n")
    if "--write" in sys.argv[1:]:
        before, _, old = PAGE.read_text().partition(MARK)
        PAGE.write_text(f"{before}{MARK}\n{update_table(old, table)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
