"""Try one package under both servers, at the same time."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import (
    ServerProcess,
    find_free_port,
    processor_seconds,
    server_starter,
)
from tests.ecosystem.client import Run, converse_all, send_all
from tests.ecosystem.judge import Findings, judge, verdict
from tests.ecosystem.package import Package
from tests.ecosystem.records import read_records
from tests.ecosystem.servers import (
    DJSERVE,
    UVICORN,
    Collector,
    command_of,
    environment_of,
    handler_of,
    prepare,
)


@dataclass
class Comparison:
    """What a package did under djserve and under Uvicorn."""

    package: Package
    handler: str
    ours: Findings
    theirs: Findings
    seconds: dict[str, float]
    """The processor time of each server."""

    @property
    def verdict(self) -> str:
        return verdict(self.ours, self.theirs)

    def save(self, folder: Path) -> None:
        """Write the package's row of the table."""
        folder.mkdir(parents=True, exist_ok=True)
        row = {
            "package": self.package.name,
            "version": self.package.version,
            "kind": self.package.kind,
            "counted": self.package.counted,
            "djserve": dict(sorted(self.ours.counts.items())),
            "uvicorn": dict(sorted(self.theirs.counts.items())),
            "verdict": self.verdict,
            "processor seconds": self.seconds,
            "handler": self.handler,
            "faults": self.ours.faults,
            "uvicorn faults": self.theirs.faults,
        }
        (folder / f"{self.package.name}.json").write_text(json.dumps(row, indent=1))


@dataclass
class Serving:
    """A server that runs for one run."""

    run: Run
    process: ServerProcess

    def processor_seconds(self) -> float:
        """Return what the server has used so far."""
        return processor_seconds(self.process.process.pid)

    def finish(self, package: Package) -> None:
        """End the server, and take in what it has left behind."""
        self.process.stop()
        self.run.log = self.process.output
        self.run.records += read_records(self.run.place)
        package.collect(self.run)


@contextmanager
def serving(package: Package, server: str, place: Path) -> Iterator[Serving]:
    """Serve the package's project for a block, in a folder of the server's name."""
    folder = place / server
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        collector = stack.enter_context(closing(Collector()))
        environment = environment_of(package, folder, ECOSYSTEM_COLLECTOR=collector.url)
        if package.django:
            _make_database(place, folder, environment)
        port = find_free_port()
        start = stack.enter_context(server_starter(folder))
        process = start(*command_of(package, server, port), port=port, env=environment)
        port = stack.enter_context(package.front(port, folder))
        yield Serving(Run(server, port, folder, received=collector.received), process)


def compare(package: Package, place: Path) -> Comparison:
    """Run the package's project under both servers, and judge both runs."""
    with ExitStack() as stack:
        both = [
            stack.enter_context(serving(package, server, place))
            for server in (DJSERVE, UVICORN)
        ]
        before = [each.processor_seconds() for each in both]
        runs = [each.run for each in both]
        asyncio.run(_load(package, runs))
        for each, seconds in zip(both, before, strict=True):
            each.run.seconds = each.processor_seconds() - seconds
            each.finish(package)
    ours, theirs = (judge(run, package) for run in runs)
    used = {run.server: round(run.seconds, 2) for run in runs}
    return Comparison(package, handler_of(runs[0].log), ours, theirs, used)


def _make_database(place: Path, folder: Path, environment: dict[str, str]) -> None:
    """Make the database once, for both servers."""
    made = place / "db.sqlite3"
    if made.exists():
        shutil.copy(made, folder)
        return
    prepare(environment)
    shutil.copy(folder / made.name, made)


async def _load(package: Package, runs: list[Run]) -> None:
    async with asyncio.TaskGroup() as group:
        for run in runs:
            group.create_task(_load_server(package, run))


async def _load_server(package: Package, run: Run) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(send_all(run, package.calls()))
        if package.sockets:
            group.create_task(converse_all(run))
        group.create_task(package.converse(run))
    await package.finish(run)
