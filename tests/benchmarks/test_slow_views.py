"""Each show of the slow views, a small one, on djserve."""

from __future__ import annotations

import argparse
import asyncio
import time
from contextlib import ExitStack, closing
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.postgresql import is_installed, running_postgresql
from benchmarks.slow_views import (
    Tally,
    cells_of,
    measure,
    measure_database,
    most_connections,
    render,
)


def options_of(*shows: str, **more: Any) -> argparse.Namespace:
    given = {"shows": shows, "counts": "2", "wait": 0.5, "crowd_wait": 0.1}
    given |= {"clients": 3, "seconds": 1.0, "age": "60"}
    return argparse.Namespace(**{**given, **more})


async def _fail() -> None:
    raise ValueError("HTTP/1.1 500 Internal Server Error")


async def _nothing() -> None:
    pass


def test_failures_are_told_beside_what_was_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Half a second passes between any two looks at the clock.
    clock = SimpleNamespace(perf_counter=count(0, 0.5).__next__)
    monkeypatch.setattr("benchmarks.slow_views.time", clock)
    tally = Tally("view")
    for work in (_nothing(), _nothing(), _fail()):
        asyncio.run(tally.time(work))

    assert tally.cell == "500, 500, 500 (2); **1 failed**"
    assert tally.failures == ["ValueError: HTTP/1.1 500 Internal Server Error"]


def test_what_was_cut_off_is_neither_answered_nor_failed() -> None:
    tally = Tally("view")

    async def cut_off() -> None:
        task = asyncio.create_task(tally.time(asyncio.sleep(3600)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cut_off())

    assert tally.cell == "1 of 1 not answered"


def test_table_has_a_column_for_each_server() -> None:
    mine = cells_of([Tally("sync", 1, [0.5]), Tally("async", 1, [0.002])])
    table = render({"djserve": mine, "gunicorn-8": {"sync": "**3 failed**"}})

    assert table.splitlines()[2:] == [
        "| sync | 500, 500, 500 (1) | **3 failed** |",
        "| async | 2, 2, 2 (1) |  |",
    ]


@pytest.mark.e2e
def test_shows_share_a_server_and_fail_no_request() -> None:
    cells = measure("djserve", options_of("sleepers", "streams", "crowd"))

    assert [*cells] == [
        "2 views of 0.5 s: all answered",
        "2 views of 0.5 s: fast view",
        "2 views of 0.5 s: admin login",
        "2 views of 0.5 s: handshake",
        "3 streams: fast view",
        "3 streams: admin login",
        "3 streams: handshake",
        "3 clients on one view of 0.1 s: its clients",
        "3 clients on one view of 0.1 s: ten other views",
    ]
    assert not any("failed" in cell for cell in cells.values())


needs_database = pytest.mark.skipif(
    not is_installed(), reason="PostgreSQL is not installed"
)


@pytest.mark.e2e
@needs_database
def test_database_refuses_no_connection_and_no_request_fails() -> None:
    pytest.importorskip("psycopg_pool")
    options = options_of("database", clients=6, database_wait=0.2)
    cells = measure_database("djserve", 4, options)

    assert cells["pool of 4: connections refused"] == "0"
    assert int(cells["pool of 4: connections open at most"]) > 0
    assert not any("failed" in cell for cell in cells.values())
    assert len(cells) == 5


@pytest.mark.e2e
@needs_database
def test_refused_connections_are_counted() -> None:
    psycopg = pytest.importorskip("psycopg")
    with running_postgresql(4) as cluster:

        def connect() -> Any:
            return psycopg.connect(
                host=str(cluster.folder), user="postgres", dbname="postgres"
            )

        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(closing(connect()))
            with pytest.raises(psycopg.OperationalError):
                connect()

            assert cluster.refusals() == 1
            assert cluster.refusals() == 0
            # The process that has refused may not have ended yet.
            deadline = time.monotonic() + 60
            while cluster.connections() != 4:
                assert time.monotonic() < deadline
                time.sleep(0.01)


def test_watch_ends_with_the_most() -> None:
    counts = iter([2, 7, 3])

    class Counted:
        def connections(self) -> int:
            return next(counts, 0)

    async def watch() -> int:
        watching = asyncio.create_task(
            most_connections(Counted(), pause=0)  # type: ignore[arg-type]
        )
        for _ in range(8):
            await asyncio.sleep(0)
        watching.cancel()
        return await watching

    assert asyncio.run(watch()) == 7
    assert next(counts, None) is None
