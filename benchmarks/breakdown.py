"""What a hello request costs, taken apart: ``python -m benchmarks.breakdown``.

Real protocol objects are driven with bytes in this process: Uvicorn's on httptools as
the straightforward way, djserve's without its fast paths, and djserve's as they are.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise

import uvloop

from benchmarks.cli import RESULTS
from benchmarks.publishing import PAGE
from benchmarks.runner import describe_machine, describe_versions
from benchmarks.stages import (
    ENDED,
    STAGES,
    Driven,
    Marks,
    drive_djserve,
    drive_uvicorn,
)
from benchmarks.tables import BREAKDOWN_BLOCK, rewrite_block

ROUNDS = 7
REQUESTS = 3000
WARM_UP = 500
TURNS_LIMIT = 100

CONTENDERS: dict[str, Callable[[Marks], Driven | None]] = {
    "before: Uvicorn's protocol": drive_uvicorn,
    "djserve, plain paths": partial(drive_djserve, plain=True),
    "after: djserve": drive_djserve,
}


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Microseconds of each stage."""

    contender: str
    stages: dict[str, float]
    writes: int
    """How many times a request calls ``write``: each may be a system call."""

    @property
    def total(self) -> float:
        return sum(self.stages.values())


async def measure_all(rounds: int, requests: int) -> list[Breakdown]:
    """Measure all by turns; a stage's figure is that of its quietest round."""
    found: dict[str, list[Breakdown]] = defaultdict(list)
    for _ in range(rounds):
        for contender, drive in CONTENDERS.items():
            driven = drive(Marks())
            if driven is not None:
                found[contender].append(await measure(contender, driven, requests))
    return [quietest(breakdowns) for breakdowns in found.values()]


def quietest(breakdowns: list[Breakdown]) -> Breakdown:
    first = breakdowns[0]
    stages = {name: min(each.stages[name] for each in breakdowns) for name in STAGES}
    return Breakdown(first.contender, stages, first.writes)


async def measure(contender: str, driven: Driven, requests: int) -> Breakdown:
    """Drive requests through a contender; a stage's figure is the median of all."""
    marks, mark_cost = driven.marks, cost_of_mark()
    gaps: dict[str, list[int]] = defaultdict(list)
    for number in range(-WARM_UP, requests):
        begun = await drive_once(driven, number)
        if number >= 0:
            for name, gap in stage_times(begun, marks).items():
                gaps[name].append(gap)
    check_answer(driven)
    driven.close()
    stages = {
        name: statistics.median(gaps[name]) - mark_cost * marks.names.count(name)
        for name in STAGES
    }
    in_microseconds = {name: max(0.0, time / 1000) for name, time in stages.items()}
    return Breakdown(contender, in_microseconds, marks.names.count("write"))


async def drive_once(driven: Driven, number: int) -> int:
    """Make one request; return when it began."""
    marks, data = driven.marks, driven.request(abs(number))
    marks.clear()
    begun = time.perf_counter_ns()
    driven.feed(data)
    # Now and then an eager one, too, is answered in the loop's next turn.
    if not driven.is_eager or not is_answered(marks):
        await turn_until_answered(marks)
    marks.note(ENDED)
    return begun


def is_answered(marks: Marks) -> bool:
    return marks.names[-1:] == ["write"]


async def turn_until_answered(marks: Marks) -> None:
    """Let the loop turn; an event to wait for would cost what is not the server's."""
    for _ in range(TURNS_LIMIT):
        await asyncio.sleep(0)
        if is_answered(marks):
            return
    raise SystemExit("A request was not answered")


def stage_times(begun: int, marks: Marks) -> dict[str, int]:
    """Return the nanoseconds of each stage; one that ends twice has both parts."""
    times: dict[str, int] = defaultdict(int)
    for name, end in zip(marks.names, marks.times, strict=True):
        times[name] += end - begun
        begun = end
    return times


def cost_of_mark() -> float:
    """Return the nanoseconds that a mark itself takes."""
    marks = Marks()
    for _ in range(WARM_UP):
        marks.note("")
    times = marks.times
    return statistics.median(end - begun for begun, end in pairwise(times))


def check_answer(driven: Driven) -> None:
    """Raise unless the last request was answered."""
    if not driven.sink.last.endswith(b"Hello, world!"):
        raise SystemExit(f"The answer ends with {driven.sink.last[-80:]!r}")


async def measure_socket(requests: int = REQUESTS) -> float:
    """Return the microseconds of one response's way into a real socket, by uvloop.

    A turn of the loop with nothing in it is taken off.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _address = listener.accept()
    far.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
    response = bytes(140)

    async def turn(write: Callable[[bytes], object]) -> int:
        begun = time.perf_counter_ns()
        write(response)
        await asyncio.sleep(0)
        spent = time.perf_counter_ns() - begun
        try:
            far.recv(4096)
        except BlockingIOError:
            pass
        return spent

    full = [await turn(transport.write) for _ in range(requests)]
    empty = [await turn(len) for _ in range(requests)]
    transport.abort()
    far.close()
    return (statistics.median(full) - statistics.median(empty)) / 1000


def render(breakdowns: list[Breakdown], socket_write: float) -> str:
    """Return the table, microseconds by stage and contender."""
    heads = [each.contender for each in breakdowns]
    lines = [["µs", *heads, "what it is"]]
    lines.append(["---", *["---:"] * len(heads), "---"])
    for name, meaning in STAGES.items():
        figures = [f"{each.stages[name]:.2f}" for each in breakdowns]
        lines.append([name, *figures, meaning])
    totals = [f"**{each.total:.2f}**" for each in breakdowns]
    lines.append(["**all**", *totals, ""])
    lines.append(["writes", *(str(each.writes) for each in breakdowns), "per response"])
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    machine, versions = describe_machine(), describe_versions()
    return (
        f"{machine['date']}, {machine['processor']}, {machine['python']}, djserve"
        f" {versions.get('djserve', '')}, Uvicorn {versions.get('uvicorn', '-')},"
        f" load average {machine['load']}; the least of"
        f" {ROUNDS} medians of {REQUESTS:,} requests each.\n"
        f"A `write` to a real connection, on uvloop, takes {socket_write:.1f} µs more,"
        " as a system call.\n\n"
        f"{rows}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="also into docs/explanation/performance.md",
    )
    options = parser.parse_args()
    breakdowns = uvloop.run(measure_all(ROUNDS, REQUESTS))
    text = render(breakdowns, uvloop.run(measure_socket()))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "breakdown.md").write_text(f"# A hello request, taken apart\n\n{text}")
    figures = [asdict(each) for each in breakdowns]
    (RESULTS / "breakdown.json").write_text(json.dumps(figures, indent=1) + "\n")
    if options.publish:
        rewrite_block(PAGE, BREAKDOWN_BLOCK, text)
    print(text)


if __name__ == "__main__":
    main()
