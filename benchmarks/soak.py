"""``python -m benchmarks.soak``: restarts, crashes and replacements under load.

Two workers serve a Django project with a Channels consumer, once in cleartext and once
with TLS, while clients of HTTP/1.1, HTTP/2 and WebSocket count each failure. The exit
code is 1 where a demand is not met.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from benchmarks.processes import BenchmarkError
from benchmarks.soak_load import load, run_h2load
from benchmarks.soak_server import SoakServer, client_ports, serve
from benchmarks.soak_tally import Tally

RELOADS = 10
KILL_INTERVAL = 2.0
SCALINGS = 3
SETTLE_TIME = 2.0
SHOWN = 20
JUDGE = "h2load"
"""Speaks HTTP/1.1 in cleartext and HTTP/2 below TLS, and sends nothing again."""


@dataclass
class Outcome:
    """What a scenario has done to the server."""

    doings: str = ""
    casualties: set[int] = field(default_factory=set)
    """The ports of the clients whose worker was killed."""
    figures: dict[str, float] = field(default_factory=dict)


Act = Callable[[SoakServer, float], Awaitable[Outcome]]


@dataclass(frozen=True)
class Scenario:
    """What happens during the load, and the server's options for it."""

    act: Act
    options: tuple[str, ...] = ()


async def hup(server: SoakServer, seconds: float) -> Outcome:
    """Reload ten times, one after the other."""
    started = time.monotonic()
    for number in range(1, RELOADS + 1):
        server.send(signal.SIGHUP)
        await server.wait_for("All workers run the new code", number)
        rest = seconds * number / RELOADS - (time.monotonic() - started)
        await asyncio.sleep(max(0.1, rest))
    return Outcome(f"{RELOADS} reloads")


async def kill(server: SoakServer, seconds: float) -> Outcome:
    """Kill the older worker every two seconds."""
    casualties: set[int] = set()
    kills = int(seconds / KILL_INTERVAL)
    for number in range(kills):
        await server.wait_for("is ready", 2 + number)
        casualties |= server.kill_worker(server.ready_workers[number])
        await asyncio.sleep(KILL_INTERVAL)
    await server.wait_for("is ready", 2 + kills)
    return Outcome(f"{kills} workers killed", casualties)


async def scale(server: SoakServer, seconds: float) -> Outcome:
    """Add a worker and take one away, several times."""
    pause = seconds / SCALINGS / 2
    for number in range(1, SCALINGS + 1):
        server.send(signal.SIGTTIN)
        await server.wait_for("is ready", 2 + number)
        await asyncio.sleep(pause)
        server.send(signal.SIGTTOU)
        await server.wait_for("has ended", number)
        await asyncio.sleep(pause)
    return Outcome(f"{SCALINGS} times a worker more and one less")


async def recycle(server: SoakServer, seconds: float) -> Outcome:
    """Let every worker be replaced after some hundred requests."""
    await asyncio.sleep(seconds)
    return Outcome(f"{server.output.count('it has answered')} workers replaced")


async def block(server: SoakServer, seconds: float) -> Outcome:
    """Block a worker's event loop for good; take the times of what follows."""
    sock = await server.target.dial()
    _, writer = await asyncio.open_connection(
        sock=sock,
        ssl=server.target.tls(),
        server_hostname="127.0.0.1" if server.target.certificate else None,
    )
    started = time.monotonic()
    port = sock.getsockname()[1]
    writer.write(b"GET /block/ HTTP/1.1\r\nHost: soak\r\n\r\n")
    figures = {}
    for what, text, count in (
        ("its stack logged", "stacks, most recent call first", 1),
        ("killed", "is replaced: it was blocked", 1),
        ("replacement ready", "is ready", 3),
    ):
        await server.wait_for(text, count)
        figures[what] = time.monotonic() - started
        if len(figures) == 1:
            casualties = _served_with(port, server)
    writer.transport.abort()
    if "in block" not in server.output:
        raise BenchmarkError(f"The stack does not name the view:\n{server.output}")
    await asyncio.sleep(SETTLE_TIME)
    return Outcome("a loop blocked for good", casualties, figures)


def _served_with(port: int, server: SoakServer) -> set[int]:
    """Return the clients of the worker that serves this one."""
    for pid in server.ready_workers[:2]:
        ports = client_ports(pid, server.target.port)
        if port in ports:
            return ports
    raise BenchmarkError(f"No worker serves the client at port {port}")


SCENARIOS = {
    "hup": Scenario(hup),
    "kill": Scenario(kill),
    "scale": Scenario(scale),
    "recycle": Scenario(recycle, ("--worker-max-requests", "500")),
    "block": Scenario(
        block, ("--worker-block-warning", "1", "--worker-hang-timeout", "5")
    ),
}


async def soak(server: SoakServer, act: Act, seconds: float) -> tuple[Tally, Outcome]:
    """Run one scenario under load; return what was counted and done."""
    await server.wait_for("Supervisor ")
    tally = Tally()
    async with load(server.target, tally):
        await asyncio.sleep(SETTLE_TIME)
        is_http1 = server.target.certificate is None
        beside = asyncio.create_task(run_h2load(server.target, seconds, is_http1))
        outcome = await act(server, seconds)
        counts = await beside
    for what in ("succeeded", "failed"):
        tally.events[f"{JUDGE}, {what}"] = counts[what]
    return tally, outcome


def find_problems(tally: Tally, outcome: Outcome, code: int) -> list[str]:
    """Return the demands that are not met."""
    problems = [
        str(failure)
        for failure in tally.failures
        if failure.port not in outcome.casualties
    ]
    failed = tally.events[f"{JUDGE}, failed"]
    if failed and not outcome.casualties:
        problems.append(f"h2load counts {failed} failures")
    if not tally.events[f"{JUDGE}, succeeded"]:
        problems.append("h2load: there was no load")
    for what in ("HTTP/1.1", "HTTP/2", "WebSocket message"):
        if not tally.requests[what]:
            problems.append(f"{what}: there was no load")
    if code != 0:
        problems.append(f"The server's exit code is {code}")
    return problems


def report(name: str, tls: bool, tally: Tally, outcome: Outcome) -> None:
    """Print what was counted."""
    print(f"{name}, {'TLS' if tls else 'cleartext'}: {outcome.doings}")
    for what, count in sorted(tally.requests.items()):
        print(f"  {what}: {count} answered")
    print(f"  failed: {len(tally.failures)}, of them resets: {tally.resets}")
    if outcome.casualties:
        print(f"  clients of killed workers: {len(outcome.casualties)}")
    codes = ", ".join(f"{code}: {n}" for code, n in sorted(tally.codes.items()))
    print(f"  WebSockets closed by the server: {codes or 'none'}")
    for what, count in sorted(tally.events.items()):
        print(f"  {what}: {count}")
    for what, seconds in outcome.figures.items():
        print(f"  {what} after {seconds:.1f} s")


def run(name: str, tls: bool, seconds: float) -> bool:
    """Run a scenario and report it; say whether all demands are met."""
    scenario = SCENARIOS[name]
    with serve(list(scenario.options), tls=tls) as server:
        tally, outcome = asyncio.run(soak(server, scenario.act, seconds))
        code = server.stop()
    report(name, tls, tally, outcome)
    problems = find_problems(tally, outcome, code)
    for problem in problems[:SHOWN]:
        print(f"  NOT MET: {problem}")
    if len(problems) > SHOWN:
        print(f"  NOT MET: and {len(problems) - SHOWN} more")
    sys.stdout.flush()
    return not problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=[*SCENARIOS, "all"])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--only", choices=["cleartext", "tls"])
    options = parser.parse_args()
    # So that the server is ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    names = list(SCENARIOS) if options.scenario == "all" else [options.scenario]
    kinds = [False, True] if options.only is None else [options.only == "tls"]
    try:
        met = [run(name, tls, options.seconds) for name in names for tls in kinds]
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
