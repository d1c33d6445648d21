"""Counted, not timed: user instructions for one operation, and a budget for them.

    python -m benchmarks --count [KIND...] [--check-budget | --write-budget]

Valgrind's callgrind counts what a whole server with a real socket executes in user
space: for a few operations and for many, each in a process of its own, and the
difference is what the others take; of a start all is counted, and so are the modules
that it imports. The client is another
process, which is not counted; neither is the kernel. On a loaded machine, two runs
differ by less than 0.1 % for most kinds, and by up to 1.5 % for new connections.

Another processor or C library may have other instructions for the same work. So each
run counts a loop of pure Python too, and the budget holds for the ratio of the two. It
holds for the versions that it was taken with. If other packages are installed, the
check goes on in an environment that has these (``.venv-counts``, or ``COUNTS_VENV``);
with another Python or kind of machine nothing is judged, and the check fails.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NoReturn

import django

from benchmarks import counted_starts, environment
from benchmarks.certificates import write_certificate
from benchmarks.counted import FILES, LENGTHS
from benchmarks.counted import KINDS as OPERATIONS
from benchmarks.processes import ROOT, BenchmarkError, end

BUDGET = ROOT / "benchmarks" / "budget.json"
REFERENCE = "reference"
KINDS = (*OPERATIONS, *counted_starts.COMMANDS)
TOLERANCE = 0.02
START_TOLERANCE = 0.03
"""Of a start, whose count depends on what else is installed, too."""
TIME_LIMIT = 1800
COLLECTED = re.compile(r"==(\d+)== Collected : (\d+)")
EXACT = ("h2", "httptools", "uvloop")
"""Packages whose every release may change what is counted."""
PACKAGES = ("django", *EXACT)


@dataclass(frozen=True)
class Budget:
    """What each operation may take, and with which versions that was counted."""

    versions: dict[str, str]
    reference: int
    instructions: dict[str, int]
    modules: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> Budget:
        return cls(**json.loads(path.read_text("utf-8")))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(vars(self), indent=2) + "\n", "utf-8")

    def judge(self, counts: dict[str, int], modules: dict[str, int]) -> list[str]:
        """Return a line for each operation that takes too much, or has no budget."""
        lines = []
        for kind, budgeted in self.scaled(counts).items():
            if budgeted is None:
                lines.append(f"{kind}: the budget does not have it")
                continue
            is_start = kind in counted_starts.COMMANDS
            tolerance = START_TOLERANCE if is_start else TOLERANCE
            if counts[kind] > budgeted * (1 + tolerance):
                growth = counts[kind] / budgeted - 1
                lines.append(
                    f"{kind}: {counts[kind]:,} instructions, {growth:.1%} more than"
                    f" the budget's {budgeted:,.0f}; up to {tolerance:.0%} is allowed"
                )
            if is_start and not (kind in modules and kind in self.modules):
                lines.append(f"{kind}: its modules are not counted, or have no budget")
        for kind, imported in modules.items():
            # If the budget does not have it, that has been said above.
            most = self.modules.get(kind, imported)
            if imported > most * (1 + START_TOLERANCE):
                lines.append(
                    f"{kind}: {imported} modules are imported, and the budget is {most}"
                )
        return lines

    def differences(self) -> dict[str, str]:
        """Return what is another version here than the budget's, in words."""
        here, budgeted = versions(), self.versions
        return {
            name: f"{name} is {here.get(name)} and the budget's {budgeted.get(name)}"
            for name in sorted(here.keys() | budgeted.keys())
            if here.get(name) != budgeted.get(name)
        }

    def requirements(self) -> list[str]:
        """Return what pip installs to have the budget's packages beneath djserve."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        pins = [
            f"{name}=={self.versions[name]}{'' if name in EXACT else '.*'}"
            for name in PACKAGES
            if name in self.versions
        ]
        return [*project["dependencies"], *pins]

    def scaled(self, counts: dict[str, int]) -> dict[str, float | None]:
        """Return the budget of what was counted, for the machine that has counted."""
        scale = counts[REFERENCE] / self.reference
        return {
            kind: self.instructions[kind] * scale if kind in self.instructions else None
            for kind in counts
            if kind != REFERENCE
        }


def versions() -> dict[str, str]:
    """Return what figures other than the budget's may come from."""
    exact = {name: metadata.version(name) for name in EXACT}
    python = ".".join(platform.python_version_tuple()[:2])
    return {
        "django": ".".join(map(str, django.VERSION[:2])),
        **exact,
        "machine": platform.machine(),
        "python": python,
    }


def count(kinds: list[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the instructions of one operation of each kind and of the reference.

    And for each start how many modules it imports.
    """
    if shutil.which("valgrind") is None:
        raise BenchmarkError("Counting needs valgrind, which is not installed")
    with tempfile.TemporaryDirectory(prefix="djserve-count-") as name:
        folder = Path(name)
        write_certificate(folder)
        (folder / FILES).mkdir()
        (folder / FILES / "a.txt").write_text("x" * 1023 + "~")
        environ = _environment(folder)
        _run([sys.executable, "-m", "benchmarks.project.prepare"], environ)
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        operations = [kind for kind in kinds if kind in OPERATIONS]
        command += [sys.executable, "-m", "benchmarks.counted", REFERENCE, *operations]
        output, counted = _run(command, environ)
        starts = [kind for kind in kinds if kind in counted_starts.COMMANDS]
        counts = difference(output, counted)
        modules = {}
        for kind, start in counted_starts.count_starts(starts, folder).items():
            counts[kind], modules[kind] = start
        return counts, modules


def difference(output: str, counted: str) -> dict[str, int]:
    """Return what one operation takes, from the processes' names and totals."""
    totals = {pid: int(total) for pid, total in COLLECTED.findall(counted)}
    short, long = LENGTHS
    runs: dict[str, dict[int, int]] = {}
    for line in output.splitlines():
        kind, length, pid = line.split()
        runs.setdefault(kind, {})[int(length)] = totals[pid]
    return {
        kind: round((run[long] - run[short]) / (long - short))
        for kind, run in runs.items()
    }


def _environment(folder: Path) -> dict[str, str]:
    """Return an environment that has nothing of the user's in it."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "BENCH_FOLDER": str(folder),
        "BENCH_THREADS": "1",
        "DJANGO_SETTINGS_MODULE": "benchmarks.project.settings",
    }


def _run(command: list[str], environ: dict[str, str]) -> tuple[str, str]:
    """Return what a command wrote to its output, and to its errors."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environ,
        # To be ended with all that it forks: see processes.end.
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{command[0]} did not end in {TIME_LIMIT} s") from None
    finally:
        end(process)
    if process.returncode:
        raise BenchmarkError(f"{command[0]} failed:\n{errors.decode()[-2000:]}")
    return output.decode(), errors.decode()


def _write_budget(counts: dict[str, int], modules: dict[str, int]) -> None:
    """Write what was counted; what was not keeps its budget, if that is comparable."""
    reference = counts.pop(REFERENCE)
    kept = Budget.read(BUDGET)
    if kept.versions == versions():
        scale = reference / kept.reference
        old = {kind: round(one * scale) for kind, one in kept.instructions.items()}
        counts, modules = old | counts, kept.modules | modules
    figures = {kind: counts[kind] for kind in KINDS if kind in counts}
    imported = {kind: modules[kind] for kind in KINDS if kind in modules}
    Budget(versions(), reference, figures, imported).write(BUDGET)


def enter_environment(budget: Budget, kinds: list[str]) -> NoReturn:
    """Check in an environment with the budget's versions.

    Raises BenchmarkError if there can be none.
    """
    differences = budget.differences()
    problem = (
        f"Not judged: {', '.join(differences.values())}."
        " `make bench ARGS=--write-budget` counts and writes the budget anew, for the"
        " versions that it finds (PYTHON selects the interpreter)."
    )
    target = Path(os.environ.get("COUNTS_VENV", ROOT / ".venv-counts")).absolute()
    if differences.keys() - PACKAGES or Path(sys.prefix).resolve() == target.resolve():
        raise BenchmarkError(problem)
    print(f"Counting in {target}: {', '.join(differences.values())}", flush=True)
    try:
        python = environment.ensure(target, budget.requirements())
    except SystemExit as error:
        raise BenchmarkError(f"{error}\n{problem}") from None
    environment.restart(python, ["--here", "--check-budget", *kinds])


def perform(kinds: list[str], *, check: bool, write: bool) -> int:
    """Count and print; return the exit code, which is 1 if a row is not as it must be.

    Where no kinds are named, all that the budget has must be counted.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise BenchmarkError(
            f"{unknown[0]!r} is not counted; these are: {', '.join(KINDS)}"
        )
    budget = Budget.read(BUDGET)
    is_comparable = budget.versions == versions()
    if check and not is_comparable:
        enter_environment(budget, kinds)
    counts, modules = count(kinds or [*KINDS])
    budgeted = budget.scaled(counts) if is_comparable else {}
    for kind, instructions in counts.items():
        imported = f"{modules[kind]:>6} modules" if kind in modules else ""
        print(render_count(kind, instructions, budgeted.get(kind)) + imported)
    if write:
        _write_budget(counts, modules)
    problems = []
    if check:
        rows = kinds or [*(budget.instructions | budget.modules)]
        problems += [f"{kind}: not counted" for kind in rows if kind not in counts]
        problems += budget.judge(counts, modules)
    for problem in problems:
        print(problem, file=sys.stderr)
    if check and not problems:
        print("All within the budget")
    return 1 if problems else 0


def render_count(kind: str, instructions: int, budgeted: float | None) -> str:
    """Return a line with a count, and how far it is from its budget."""
    line = f"{kind:20}{instructions:>14,}"
    if budgeted is None:
        return line
    return f"{line}  {instructions / budgeted - 1:+7.1%} of {budgeted:,.0f}"
