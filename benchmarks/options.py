"""The options of the command line; like ``environment``, it needs nothing installed."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.scenarios import SCENARIOS

EPILOG = """
Without scenarios all are run. A prefix stands for all that begin with it ("django_").
The first run makes .venv-bench (or $BENCH_VENV) and installs the other servers there.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure djserve beside other servers, on this machine only.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("scenarios", nargs="*", metavar="scenario", help="what to measure")
    add("--list", action="store_true", help="list the scenarios and end")
    add("--quick", action="store_true", help="less of all: some ten minutes")
    add("--goals", action="store_true", help="what the goals need: some 25 minutes")
    add("--plan", action="store_true", help="say how long it would take, and end")
    add("--rounds", type=positive, help="measurements of each server")
    add("--seconds", type=positive, help="seconds of load in each measurement")
    add(
        "--minutes",
        type=positive,
        help="one round only of what is left, if it would take longer",
    )
    add("--servers", type=names, default=(), metavar="A,B", help="only these")
    add("--output", type=Path, metavar="FOLDER", help="where the results go")
    add("--report", type=Path, metavar="FILE", help="measure nothing: use this JSON")
    add(
        "--publish",
        action="store_true",
        help="also into docs/explanation/performance.md",
    )
    add("--profile", action="store_true", help="sample djserve, in the hot paths")
    add("--count", action="store_true", help="count instructions: see counts.py")
    add(
        "--check-budget",
        action="store_true",
        help="count, and fail if the budget is exceeded",
    )
    add("--write-budget", action="store_true", help="count, and write the budget")
    add("--upgrade", action="store_true", help="install the newest servers first")
    add("--here", action="store_true", help="use this Python and what it has")
    return parser


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def names(text: str) -> tuple[str, ...]:
    chosen = tuple(name.strip() for name in text.split(","))
    known = contender_names()
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r} is none of {', '.join(known)}"
        )
    return chosen


def contender_names() -> list[str]:
    return [*dict.fromkeys(name for each in SCENARIOS for name in each.contenders)]


def list_scenarios() -> None:
    width = max(len(scenario.name) for scenario in SCENARIOS)
    for scenario in SCENARIOS:
        print(f"{scenario.name:{width}}  {scenario.group}: {scenario.title}")
