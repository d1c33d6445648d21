"""Views under agents: what is counted, and the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import processes
from benchmarks.agents import (
    TRACED,
    Figure,
    Figures,
    count_reported,
    measure,
    middle,
    render,
)
from benchmarks.measures import Conditions
from benchmarks.processes import BenchmarkError, Server
from benchmarks.servers import cores, module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIGURES: Figures = {
    ("sentry", "sync", "djserve"): [Figure(1200, 900), Figure(1000, 1000)],
    ("sentry", "sync", "uvicorn"): [Figure(200, 5200), Figure(240, 4800)],
}


def test_middle_of_the_rounds_counts() -> None:
    assert middle([Figure(1, 9), Figure(5, 7), Figure(2, 1)]) == Figure(2, 7)


def test_table_has_the_gain_by_rate_and_by_cpu_time() -> None:
    assert render(FIGURES).splitlines()[2:] == [
        "| sentry | sync | 1,100 /s, 950 µs | 220 /s, 5,000 µs | 5.0 | 5.3 |"
    ]


def test_server_that_failed_has_no_gain() -> None:
    figures: Figures = {("none", "async", "djserve"): [Figure(1, 1)]}

    assert render(figures).splitlines()[2:] == ["| none | async | failed | | | |"]


@pytest.fixture
def conditions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Conditions]:
    server_core, load_core = cores()
    monkeypatch.setenv("BENCH_AGENT", "")
    environ = {**TRACED.environ, "BENCH_FOLDER": str(tmp_path)}
    environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.project.settings"
    command = module("benchmarks.project.prepare")
    prepare = processes.start(command, load_core, environ=environ)
    assert prepare.wait(120) == 0
    yield Conditions(
        seconds=1,
        server_core=server_core,
        load_core=load_core,
        folder=tmp_path,
        certificate=tmp_path,
        key=tmp_path,
    )
    processes.end_all()


@pytest.mark.e2e
def test_agent_that_reports_too_little_is_no_figure(
    conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sentry_sdk")

    def ask_once(running: Server, *given: Any) -> Figure:
        # As though a million had been sent.
        return Figure(1_000_000, count_reported(running.port))

    monkeypatch.setattr("benchmarks.agents.load", ask_once)

    with pytest.raises(BenchmarkError, match=r"sentry reported [1-9]\d* of 2000000 "):
        measure("sentry", "djserve", conditions)
