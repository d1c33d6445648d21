"""The supervisor's status as a page for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

COLUMNS = (
    ("WORKER", "number"),
    ("PROCESS", "process"),
    ("STATE", "state"),
    ("AGE", "age"),
    ("MEMORY", "memory"),
    ("CONN", "connections"),
    ("WS", "websockets"),
    ("REQUESTS", "requests"),
    ("IN FLIGHT", "in_flight"),
    ("QUEUE", "thread_queue"),
)


PLACES = {"thread": "in a thread", "loop": "on the event loop"}
"""Where a call runs."""

PATH_LIMIT = 200
"""Characters of a request's path that are shown."""


def format_status(status: dict[str, Any], *, stacks: bool = False) -> str:
    """Return the lines for what ``supervisor.status.describe_fleet`` returns."""
    return "\n".join(_lines(status, stacks))


def format_age(seconds: float) -> str:
    """Return ``59s``, ``3m05s``, ``2h04m`` or ``3d02h``."""
    whole = int(seconds)
    for unit, smaller, size, part in (
        ("d", "h", 86400, 3600),
        ("h", "m", 3600, 60),
        ("m", "s", 60, 1),
    ):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part:02d}{smaller}"
    return f"{whole}s"


def _lines(status: dict[str, Any], stacks: bool) -> Iterator[str]:
    # While new code is brought in there are more processes than workers are wanted.
    ready = sum(worker["state"] == "ready" for worker in status["workers"])
    yield (
        f"djserve {status['version']}, supervisor {status['supervisor']}: "
        f"{ready} of {_count(status['target'], 'worker')} ready, "
        f"generation {status['generation']}, {_count(status['restarts'], 'restart')}"
    )
    if status["is_stopping"]:
        yield "Draining"
    yield from _reload(status["reload"])
    rows = [[title for title, _ in COLUMNS]]
    rows += [_row(worker) for worker in status["workers"]]
    yield from _table(rows)
    # A supervisor of an older version has none.
    if status.get("processes"):
        yield from _processes(status["processes"])
    for worker in status["workers"]:
        yield from _threads(worker)
        yield from _limits(worker)
        yield from _calls(worker, stacks)


def _reload(outcome: dict[str, Any]) -> Iterator[str]:
    match outcome["state"]:
        case "loading":
            yield "Reloading: the new code is being loaded"
        case "rolling":
            yield "Reloading: workers with the new code replace the others"
        case "failed":
            yield "The last reload failed: " + "\n".join(outcome["problems"])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _table(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield "  ".join(cell.rjust(width) for cell, width in cells)


def _processes(services: list[dict[str, Any]]) -> Iterator[str]:
    rows = [["NAME", "PROCESS", "STATE", "AGE", "MEMORY"]]
    rows += [
        [
            f"{service['name']} {run['number']}",
            str(run["process"]),
            run["state"],
            format_age(run["age"]),
            f"{run['memory'] / 2**20:.0f} MiB",
        ]
        for service in services
        for run in service["running"]
    ]
    yield from _table(rows)
    for service in services:
        count = sum(run["state"] == "running" for run in service["running"])
        line = f"{service['name']}: {count} of {service['target']} running"
        end = service["last_end"]
        cannot_start = end.startswith("cannot")
        if service["restarts"]:
            line += ", " + _count(service["restarts"], "restart")
            line += "" if cannot_start else f", the last {end}"
        if service["next_start"]:
            line += f", {end}" if cannot_start else ""
            line += f", next start in {service['next_start']:.0f} s"
        yield f"{line}: {service['command']}"


def _row(worker: dict[str, Any]) -> list[str]:
    shown = dict(worker)
    shown["age"] = format_age(worker["age"])
    shown["memory"] = f"{worker['memory'] / 2**20:.0f} MiB"
    if worker["process"] is None:
        # Not forked yet.
        shown["process"] = shown["memory"] = "-"
    return [str(shown[key]) for _, key in COLUMNS]


def _threads(worker: dict[str, Any]) -> Iterator[str]:
    threads = worker["threads"]
    if not (threads["computing"] or threads["waiting"] or threads["parked"]):
        return
    figures = (threads[name] for name in ("computing", "waiting", "parked"))
    computing, waiting, parked = figures
    line = f"threads: {computing} computing, {waiting} waiting, {parked} parked"
    if worker["thread_queue"]:
        calls = _count(worker["thread_queue"], "call")
        line += f"; {calls} queued, the first for {threads['longest_wait']:.1f} s"
    yield f"Worker {worker['number']}: {line}"
    for view, of_view in threads["views"].items():
        line = _count(of_view["threads"], "thread")
        if of_view["queued"]:
            line += f", {_count(of_view['queued'], 'call')} queued"
        yield f"    {view}: {line}"


def _limits(worker: dict[str, Any]) -> Iterator[str]:
    # A supervisor of an older version tells of none.
    limits = worker.get("limits")
    if limits:
        counts = ", ".join(f"{name} {count}" for name, count in limits.items())
        yield f"Worker {worker['number']}: refused or closed by setting: {counts}"


def _printable(path: str) -> str:
    r"""Return what a terminal may be given of a path that a client has chosen.

    ``/%1b]0;...`` would be a command to the operator's terminal (CWE-150), and a lone
    surrogate an error.
    """
    shown = "".join(
        char if char.isprintable() else ascii(char)[1:-1] for char in path[:PATH_LIMIT]
    )
    return shown if len(path) <= PATH_LIMIT else f"{shown}..."


def _calls(worker: dict[str, Any], stacks: bool) -> Iterator[str]:
    if worker["calls"] is None:
        if worker["state"] == "ready":
            yield (
                f"Worker {worker['number']} does not answer: its event loop has been "
                f"blocked for {worker['blocked']} s"
            )
        return
    for call in worker["calls"]:
        view = f" in {call['view']}" if call["view"] else ""
        path = _printable(call["path"])
        yield (
            f"Worker {worker['number']}: {call['method']} {path}{view}, "
            f"{call['age']:.1f} s, {PLACES.get(call['where'], call['where'])}"
        )
        if stacks:
            yield from (f"    {line}" for line in call["stack"])
