"""``make unit``: the tests that wait for nothing, in one process for each processor.

Not by pytest-xdist, which has each process read all the tests, and tell another one of
each: a quarter of the processor time of tests as short as these. Here each process
reads its own files alone. Those in which all tests are marked with ``e2e`` are read by
none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from djserve.cpus import count_cpus
from tests.support.parts import VARIABLE

NO_TESTS = 5
"""How pytest ends if it has found no test."""


def main(arguments: Sequence[str]) -> int:
    """Run the tests, or those that pytest's arguments name; return the exit code."""
    jobs = os.environ.get("JOBS", "auto")
    count = count_cpus() if jobs == "auto" else max(1, int(jobs))
    if any(os.path.isfile(word.partition("::")[0]) for word in arguments):
        # Files that are named are read in any case.
        count = 1
    with tempfile.TemporaryDirectory(prefix="djserve-unit-") as folder:
        outputs = [Path(folder, str(part)) for part in range(1, count)]
        parts = [start(0, count, arguments, None)]
        parts += [
            start(number, count, arguments, output)
            for number, output in enumerate(outputs, 1)
        ]
        # The first one's output is seen as it comes.
        codes = [parts[0].wait()]
        for part, output in zip(parts[1:], outputs, strict=True):
            codes.append(part.wait())
            if codes[-1] != NO_TESTS:
                print(output.read_text("utf-8"), flush=True)
    failed = [code for code in codes if code not in (0, NO_TESTS)]
    if failed:
        return failed[0]
    return NO_TESTS if set(codes) == {NO_TESTS} else 0


def start(
    number: int, count: int, arguments: Sequence[str], output: Path | None
) -> subprocess.Popen[bytes]:
    """Start pytest for one part; it writes to a file if there is one."""
    command = [
        *(sys.executable, "-m", "pytest", "-m", "not e2e"),
        *("-p", "no:xdist", *arguments),
    ]
    environment = {**os.environ, VARIABLE: f"{number}/{count}"}
    if output is None:
        return subprocess.Popen(command, env=environment)
    with output.open("wb") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        # The processes have got it as well, and tell what they were at.
        sys.exit(130)
