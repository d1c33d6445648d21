"""The command line of the benchmarks: choose, measure, report."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks import counts, processes, publishing, servers
from benchmarks.ahead import unexplained
from benchmarks.goals import goal_scenarios
from benchmarks.loads import require_tools
from benchmarks.model import Results, Row
from benchmarks.options import build_parser
from benchmarks.plots import plot_all
from benchmarks.processes import ROOT, BenchmarkError
from benchmarks.profiles import GOALS_ONLY, NORMAL, QUICK, Profile
from benchmarks.profiling import HOT_PATHS, profile
from benchmarks.runner import (
    conditions_for,
    contenders,
    describe_machine,
    describe_versions,
    estimate,
    new_row,
    run_scenarios,
)
from benchmarks.scenarios import Scenario, select, tools_of
from benchmarks.tables import render, render_group, render_problems

RESULTS = ROOT / "benchmarks" / "results"
PROFILES = RESULTS / "profiles"
LOAD_LIMIT = 0.7


def main(arguments: list[str]) -> int:
    """Do what the arguments say; return the exit code."""
    options = build_parser().parse_args(arguments)
    for number in processes.INTERRUPTS:
        signal.signal(number, processes.interrupt)
    try:
        return perform(options)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        return 130
    finally:
        processes.end_all()


def perform(options: argparse.Namespace) -> int:
    if options.report:
        make_folder(output_folder(options))
        results = read_results(options.report)
        if options.publish:
            require_parts(results)
        report(results, options)
        return 0
    if options.count or options.check_budget or options.write_budget:
        return counts.perform(
            options.scenarios,
            check=options.check_budget,
            write=options.write_budget,
        )
    servers.raise_open_file_limit()
    if options.profile:
        chosen = select(options.scenarios or [*HOT_PATHS])
        require_tools(tools_of(chosen))
        warn_if_not_alone()
        return write_profiles(chosen, options)
    chosen = choose(options)
    say(describe_plan(chosen, options))
    if options.plan:
        return 0
    make_folder(output_folder(options))
    if options.publish:
        require_parts(expected_results(chosen, options))
    require_tools(tools_of(chosen))
    warn_if_not_alone()
    results = measure(chosen, options)
    report(results, options)
    ours = [row.cells["djserve"] for row in results.rows if "djserve" in row.cells]
    return 1 if any(cell.failures for cell in ours) else 0


def warn_if_not_alone() -> None:
    """Say so if others use the cores: figures are then good for nothing."""
    load = os.getloadavg()[0]
    if load > LOAD_LIMIT:
        say(f"WARNING: the load average is {load:.1f}: something else uses the cores")


def profile_of(options: argparse.Namespace) -> Profile:
    if options.goals:
        return GOALS_ONLY
    return QUICK if options.quick else NORMAL


def choose(options: argparse.Namespace) -> list[Scenario]:
    """Return what to measure; raises BenchmarkError for a name that nothing has.

    Each of the rounds that are asked for has all contenders.
    """
    plan, chosen = profile_of(options), select(options.scenarios)
    if options.goals:
        names = {each.name for each in chosen}
        chosen = [each for each in goal_scenarios() if each.name in names]
    elif not options.scenarios:
        chosen = [each for each in chosen if each.name not in plan.left_out]
    is_whole = bool(options.rounds) or plan.is_whole
    return [
        replace(
            each,
            is_whole=each.is_whole or is_whole,
            overhead=each.overhead * plan.overhead,
        )
        for each in chosen
    ]


def rounds_of(scenario: Scenario, options: argparse.Namespace) -> int:
    plan = profile_of(options)
    usual = plan.steady_rounds if scenario.is_steady else plan.rounds
    return int(options.rounds or usual)


def minutes_of(options: argparse.Namespace) -> float | None:
    """Return how long the run may take before it makes one round of what is left."""
    return options.minutes or profile_of(options).minutes


def describe_plan(chosen: list[Scenario], options: argparse.Namespace) -> str:
    """Say how much is to be measured, and how long that takes."""
    plan = profile_of(options)
    count, minutes = estimate(
        chosen,
        options.servers,
        lambda scenario: rounds_of(scenario, options),
        options.seconds or plan.seconds,
    )
    text = f"{len(chosen)} scenarios, {count} measurements: about {minutes:.0f} minutes"
    limit = minutes_of(options)
    if limit is None:
        return text
    return f"{text}; one round only of what is left if {limit:g} do not suffice"


def measure(chosen: list[Scenario], options: argparse.Namespace) -> Results:
    """Run the scenarios; the results so far are on the disk after each."""
    plan = profile_of(options)
    seconds = options.seconds or plan.seconds
    results = Results(
        machine=describe_machine(),
        versions=describe_versions(),
        options={
            "profile": plan.name,
            "rounds": options.rounds or plan.rounds,
            "seconds": seconds,
            "transfers": f"{plan.transfer_size >> 20} MiB",
        },
    )

    def rounds(scenario: Scenario) -> int:
        return rounds_of(scenario, options)

    begun = time.monotonic()
    with conditions_for(plan, seconds) as conditions:
        for row in run_scenarios(
            chosen,
            options.servers,
            rounds,
            conditions,
            results,
            say,
            minutes_of(options),
        ):
            show(row)
            results.write(output_folder(options) / "results.json")
    say(f"This took {(time.monotonic() - begun) / 60:.0f} minutes")
    return results


def say(line: str) -> None:
    print(line, flush=True)


def show(row: Row) -> None:
    say(f"\n{render_group(row.group, [row])}\n")


def output_folder(options: argparse.Namespace) -> Path:
    """Return where results go: a part of a run does not replace a whole one."""
    if options.output:
        return Path(options.output)
    if options.report:
        return Path(options.report).parent
    if options.scenarios or options.servers or options.quick:
        return RESULTS / "partial"
    return RESULTS / "goals" if options.goals else RESULTS


def make_folder(folder: Path) -> None:
    """Make it before hours go into what it is to hold; raises BenchmarkError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchmarkError(
            f"The results cannot go to {folder}: {error.strerror}"
        ) from error
    if not os.access(folder, os.W_OK):
        raise BenchmarkError(f"The results cannot go to {folder}: it is read-only")


def report(results: Results, options: argparse.Namespace) -> None:
    """Write tables and pictures; into the documentation too if that is asked for."""
    folder = output_folder(options)
    results.write(folder / "results.json")
    text = render(results)
    (folder / "results.md").write_text(f"# Benchmark results\n\n{text}", "utf-8")
    try:
        pictures = plot_all(results, folder)
    except ModuleNotFoundError:
        say("No pictures: matplotlib is not installed")
        pictures = []
    say(render_problems(results))
    say(f"Results are in {folder}")
    if options.publish:
        say(f"Published: {', '.join(publishing.publish(results, pictures))}")
    if names := unexplained(results):
        say(f"Not explained yet (benchmarks/reasons.py): {', '.join(names)}")


def expected_results(chosen: list[Scenario], options: argparse.Namespace) -> Results:
    """Return what a run is going to have, without the figures."""
    rows = [new_row(each, contenders(each, options.servers)) for each in chosen]
    return Results({}, {}, {"profile": profile_of(options).name}, rows)


def read_results(path: Path) -> Results:
    """Read those of a run before; raises BenchmarkError if there are none."""
    try:
        return Results.read(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(f"{path} has no results: {error}") from error


def require_parts(results: Results) -> None:
    """Refuse to publish what no part of the documentation is of, before measuring."""
    if not publishing.parts_of(results):
        raise BenchmarkError(
            "--publish needs a whole run, or --goals, or all of realistic_, with all"
            " servers and not --quick: nothing else is published"
        )


def write_profiles(chosen: list[Scenario], options: argparse.Namespace) -> int:
    """Write one text for each scenario that has a server under load."""
    PROFILES.mkdir(parents=True, exist_ok=True)
    plan = profile_of(options)
    with conditions_for(plan, options.seconds or 5) as conditions:
        for scenario in chosen:
            try:
                text = profile(scenario, conditions)
            except BenchmarkError as error:
                say(f"{scenario.name}: {error}")
                continue
            path = PROFILES / f"{scenario.name}.txt"
            path.write_text(text, "utf-8")
            say(text)
    return 0
