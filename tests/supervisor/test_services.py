from __future__ import annotations

import logging

import pytest

from djserve.conf.processes import ProcessConfig
from djserve.supervisor.replacement import LONGEST_DELAY
from djserve.supervisor.services import AT_ONCE, SETTLED, SHORT_LIFE, Services


class FakeProcess:
    def __init__(self, pid: int, name: str) -> None:
        self.pid = pid
        self.name = name
        self.code: int | None = None
        self.signals: list[str] = []

    def poll(self) -> int | None:
        return self.code

    def read(self) -> None:
        """It writes nothing."""

    def terminate(self) -> None:
        self.signals.append("terminate")

    def kill(self) -> None:
        self.signals.append("kill")

    def close(self) -> None:
        self.signals.append("close")

    def memory(self) -> int:
        return 2**20


class FakeLauncher:
    def __init__(self) -> None:
        self.started: list[FakeProcess] = []
        self.is_broken = False
        self.pids: set[int] = set()

    def start(self, config: ProcessConfig, name: str) -> FakeProcess:
        if self.is_broken:
            raise OSError("no such program")
        process = FakeProcess(100 + len(self.started), name)
        self.started.append(process)
        return process


class Site:
    """One service "tasks", and its clock."""

    def __init__(self, count: int = 1, *, overlap: bool = False) -> None:
        self.now = 1000.0
        self.attempt = 1
        self.launcher = FakeLauncher()
        config = ProcessConfig(
            name="tasks",
            command=("work",),
            count=count,
            overlap=overlap,
            stop_timeout=5,
        )
        self.services = Services([config], self.launcher, clock=lambda: self.now)
        (self.tasks,) = self.services.services

    def turn(self, seconds: float = 0.0, *, is_alone: bool = True) -> None:
        self.now += seconds
        self.services.poll()
        self.services.tick(self.now, self.attempt, is_alone=is_alone)

    def running(self) -> list[int]:
        return [run.process.pid for run in self.tasks.runs]

    def end(self, pid: int, code: int = 0) -> None:
        self.launcher.started[pid - 100].code = code
        self.turn()


def test_nothing_starts_before_code_is_brought_in() -> None:
    site = Site()
    site.attempt = 0
    site.turn()
    assert site.running() == []


def test_count_runs_and_is_scaled() -> None:
    site = Site(2)
    site.turn()
    assert [p.name for p in site.launcher.started] == ["tasks 1", "tasks 2"]
    site.services.scale(site.tasks, 3)
    site.turn()
    assert site.running() == [100, 101, 102]
    site.services.scale(site.tasks, 1)
    site.turn()
    assert [p.signals for p in site.launcher.started] == [
        [],
        ["terminate"],
        ["terminate"],
    ]


def test_number_far_too_large_can_be_taken_back() -> None:
    site = Site(1)
    site.services.scale(site.tasks, 10**6)
    site.turn()
    site.turn()
    assert len(site.running()) == 2 * AT_ONCE
    site.services.scale(site.tasks, 1)
    site.turn()
    assert len(site.tasks.live) == 1


def test_never_more_than_count_while_new_code_is_brought_in() -> None:
    site = Site(2)
    site.turn()
    site.attempt = 2
    site.turn(60)
    assert site.launcher.started[0].signals == ["terminate"]
    assert site.launcher.started[1].signals == []
    assert site.running() == [100, 101]
    site.end(100)
    assert site.running() == [101, 102]
    site.turn(SETTLED)
    assert site.launcher.started[1].signals == ["terminate"]
    site.end(101)
    site.turn(60)
    assert site.running() == [102, 103]


def test_with_overlap_the_new_one_comes_first() -> None:
    site = Site(1, overlap=True)
    site.turn()
    site.attempt = 2
    site.turn(60)
    site.turn(0.1)
    assert site.running() == [100, 101]
    assert site.launcher.started[0].signals == []
    site.turn(SETTLED)
    assert site.launcher.started[0].signals == ["terminate"]
    assert site.launcher.started[1].signals == []


def test_with_overlap_the_old_one_stays_if_the_new_one_fails() -> None:
    site = Site(1, overlap=True)
    site.turn()
    site.attempt = 2
    site.turn(60)
    site.end(101, 1)
    site.turn(60)
    assert site.launcher.started[0].signals == []


def test_crash_loop_is_logged_once_and_held_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site()
    site.turn()
    starts = []
    with caplog.at_level(logging.INFO, "djserve"):
        for _ in range(10):
            site.end(site.running()[0], 3)
            began = site.now
            while not site.running():
                site.turn(0.1)
            starts.append(site.now - began)
    errors = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert len(errors) == 2
    assert "exit code 3; the next start is in 0.5 seconds" in errors[0]
    assert "keeps ending at once: the last one ended with exit code 3" in errors[1]
    assert starts == sorted(starts)
    assert starts[-1] == pytest.approx(LONGEST_DELAY, abs=0.2)
    assert site.tasks.restarts == 10
    with caplog.at_level(logging.INFO, "djserve"):
        site.turn(SHORT_LIFE + 1)
    assert "tasks runs again" in caplog.text


def test_end_after_a_long_life_costs_no_delay() -> None:
    site = Site()
    site.turn()
    site.now += SHORT_LIFE + 1
    site.end(100, -9)
    assert site.running() == [101]


def test_program_that_cannot_be_started_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site()
    site.launcher.is_broken = True
    site.turn()
    assert "tasks 1 cannot be started: no such program" in caplog.text
    site.launcher.is_broken = False
    site.turn(1)
    assert site.running() == [100]


def test_stop_kills_what_does_not_end_in_its_time() -> None:
    site = Site()
    site.turn()
    site.services.stop()
    site.turn(4.9)
    assert site.launcher.started[0].signals == ["terminate"]
    site.turn(0.2)
    assert site.launcher.started[0].signals == ["terminate", "kill"]
    assert not site.services.is_ended()
    site.end(100, -9)
    assert site.services.is_ended()


def test_stop_leaves_what_ends_already_its_time() -> None:
    site = Site(2)
    site.turn()
    site.services.scale(site.tasks, 1)
    site.turn()
    site.services.stop()

    assert [p.signals for p in site.launcher.started] == [["terminate"]] * 2

    site.services.stop()

    assert [p.signals for p in site.launcher.started] == [["terminate"] * 2] * 2


def test_successor_waits_for_the_predecessor() -> None:
    site = Site()
    site.turn(is_alone=False)
    assert site.running() == []
    site.turn()
    assert site.running() == [100]
