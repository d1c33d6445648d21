"""Show how much of each module its own test module covers, lines and branches.

A module that only the tests of others reach is a module whose contract is not tested.
Arguments name modules ("djserve/conf/parser.py"); without any, all are measured.
``--fail-under PERCENT`` makes the exit code 1 where one stays below.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "djserve"


def find_pairs(modules: list[str]) -> Iterator[tuple[Path, Path]]:
    """Yield each module that has a test module of its own, and that."""
    chosen = [ROOT / name for name in modules] or sorted(PACKAGE.rglob("*.py"))
    for module in chosen:
        folder = module.relative_to(PACKAGE).parent
        tests = ROOT / "tests" / folder / f"test_{module.name.strip('_')}"
        if tests.is_file():
            yield module, tests


def measure(module: Path, tests: Path, data: Path) -> tuple[float, list[int]]:
    """Run one test module; return the percentage it covers and the lines it misses."""
    coverage = [sys.executable, "-m", "coverage"]
    pytest = ["-m", "pytest", "-q", "-p", "no:randomly", str(tests)]
    ran = subprocess.run(
        [*coverage, "run", f"--data-file={data}", *pytest],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if ran.returncode != 0:
        sys.exit(f"{tests.relative_to(ROOT)} fails:\n{ran.stdout}{ran.stderr}")
    report = [*coverage, "json", "-q", f"--data-file={data}", "-o", f"{data}.json"]
    subprocess.run([*report, f"--include={module}"], cwd=ROOT, check=True)
    (file,) = json.loads(Path(f"{data}.json").read_text())["files"].values()
    return file["summary"]["percent_covered"], file["missing_lines"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--fail-under", type=float, default=0, metavar="PERCENT")
    options = parser.parse_args()
    lowest = 100.0
    with tempfile.TemporaryDirectory() as folder:
        for number, (module, tests) in enumerate(find_pairs(options.modules)):
            percent, missing = measure(module, tests, Path(folder, str(number)))
            lowest = min(lowest, percent)
            lines = " ".join(map(str, missing))
            print(f"{percent:6.1f} %  {module.relative_to(ROOT)}  {lines}", flush=True)
    return int(lowest < options.fail_under)


if __name__ == "__main__":
    sys.exit(main())
