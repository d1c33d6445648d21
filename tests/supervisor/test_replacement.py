"""When a worker is replaced; the hanging one is a real process, by our clock."""

from __future__ import annotations

import logging
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from djserve.conf.parser import parse
from djserve.conf.schema import WorkersConfig
from djserve.instrumentation.board import Figure
from djserve.supervisor.processes import Worker
from djserve.supervisor.replacement import (
    DUMP_LIMIT,
    DUMP_TIME,
    KILL_TIMEOUT,
    LONGEST_DELAY,
    STORM_COUNT,
    Backoff,
    Limits,
    check_loop,
)
from tests.support.logs import own_records

if TYPE_CHECKING:
    from djserve.conf.schema import WorkersConfig


pytestmark = pytest.mark.e2e

BLOCKED = """
import faulthandler, signal, sys, time
faulthandler.register(signal.SIGUSR2, file=int(sys.argv[1]), all_threads=True)
def busy_view():
    print("busy", flush=True)
    time.sleep(60)
busy_view()
"""


class Patient:
    """A worker with a process that writes its stacks, and whose beats are ours."""

    def __init__(self) -> None:
        self.worker = Worker(1, 1, 0.0)
        _, _, stacks = self.worker.take_descriptors()
        self.process = subprocess.Popen(
            [sys.executable, "-c", BLOCKED, str(stacks)],
            stdout=subprocess.PIPE,
            pass_fds=(stacks,),
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()
        self.worker.pid = self.process.pid
        self.worker.ready_at = 0.0

    def beat(self, now: float) -> None:
        self.worker.board.numbers[Figure.HEARTBEAT] = int(now * 1e9)

    def wait_for_stacks(self) -> None:
        deadline = time.monotonic() + 120
        while "busy_view" not in self.worker.read_stacks():
            assert time.monotonic() < deadline, "no stacks were written"
            time.sleep(0.01)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.worker.close()


@pytest.fixture
def patient() -> Iterator[Patient]:
    patient = Patient()
    patient.beat(100)
    yield patient
    patient.end()


def limits(warning: float | None, hang: float | None) -> WorkersConfig:
    settings = {"WORKER_BLOCK_WARNING": warning, "WORKER_HANG_TIMEOUT": hang}
    return parse(settings).workers


def test_loop_that_beats_is_left_alone(patient: Patient) -> None:
    check_loop(patient.worker, limits(1, 5), 100.9)

    assert patient.worker.blocked_since is None
    assert patient.worker.read_stacks() == ""


def test_blocked_loop_is_logged_with_its_stacks(
    patient: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    check_loop(patient.worker, limits(1, None), 101.5)
    patient.wait_for_stacks()
    check_loop(patient.worker, limits(1, None), 101.5 + DUMP_TIME)

    (record,) = own_records(caplog)
    assert "has been blocked for 1.7 seconds" in record.message
    assert "in busy_view" in record.message


def test_stacks_that_take_their_time_are_waited_for(
    patient: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    patient.worker.dumped_at = patient.worker.blocked_since = 101.5
    check_loop(patient.worker, limits(1, None), 101.5 + DUMP_TIME)
    assert own_records(caplog) == []
    check_loop(patient.worker, limits(1, None), 101.5 + DUMP_LIMIT)

    (record,) = own_records(caplog)
    assert "has been blocked for 3.5 seconds" in record.message


def test_loop_that_runs_on_is_told_with_the_time_it_was_blocked(
    patient: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    check_loop(patient.worker, limits(1, 5), 101.5)
    patient.beat(103)
    check_loop(patient.worker, limits(1, 5), 103)

    assert "ran on after 3.0 seconds" in own_records(caplog)[-1].message
    assert patient.worker.blocked_since is None
    assert patient.process.poll() is None


def test_loop_that_stays_blocked_is_killed_after_its_stacks_are_logged(
    patient: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    check_loop(patient.worker, limits(None, 5), 105.0)
    assert patient.process.poll() is None
    patient.wait_for_stacks()
    check_loop(patient.worker, limits(None, 5), 105.0 + DUMP_TIME)

    assert patient.process.wait(120) == -signal.SIGKILL
    records = own_records(caplog)
    assert [record.levelno for record in records] == [logging.ERROR] * 2
    assert "is replaced: it was blocked for 5 seconds" in records[-1].message


def test_kill_is_left_to_its_deadline(
    patient: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    check_loop(patient.worker, limits(1, 5), 105.0)
    patient.wait_for_stacks()
    for now in (105.5, 105.7):
        check_loop(patient.worker, limits(1, 5), now)

    assert patient.worker.deadline == 105.5 + KILL_TIMEOUT
    assert sum("is replaced" in message for message in caplog.messages) == 1


def test_without_limits_nothing_is_asked(patient: Patient) -> None:
    check_loop(patient.worker, limits(None, None), 1000.0)

    assert patient.worker.blocked_since is None


def test_worker_that_has_just_become_ready_is_not_blocked(patient: Patient) -> None:
    patient.beat(0)
    patient.worker.ready_at = 200.0
    check_loop(patient.worker, limits(1, 5), 200.5)

    assert patient.worker.blocked_since is None


def test_without_settings_a_worker_lives_on() -> None:
    limits = Limits.draw(WorkersConfig(), random.Random())

    assert limits.find_reason(10**9, 10**9, 10**15) == ""


@pytest.mark.parametrize(
    ("used", "reason"),
    [
        ((100, 0, 0), "it has answered 100 requests"),
        ((0, 60, 0), "it is 60 seconds old"),
        ((0, 0, 2**20), "it uses 1 MiB"),
        ((99, 59, 2**20 - 1), ""),
    ],
)
def test_first_limit_reached_is_the_reason(
    used: tuple[int, int, int], reason: str
) -> None:
    assert Limits(100, 60, 2**20).find_reason(*used) == reason


def test_limits_vary_below_the_setting_by_the_jitter() -> None:
    config = WorkersConfig(worker_max_requests=1000, worker_jitter=20)
    chance = random.Random(1)
    drawn = [Limits.draw(config, chance).requests for _ in range(100)]

    assert 800 <= min(drawn) < 850
    assert 950 < max(drawn) <= 1000


def test_worker_that_has_served_is_replaced_at_once() -> None:
    backoff = Backoff()

    assert backoff.worker_ended(served=2, now=100) == 0
    assert backoff.wait(now=100) == 0


def test_delay_doubles_with_each_short_life() -> None:
    backoff = Backoff()

    assert [backoff.worker_ended(0, now) for now in range(4)] == [0.5, 1, 2, 4]
    assert backoff.wait(now=5) == pytest.approx(2)


def test_delay_has_an_upper_bound() -> None:
    backoff = Backoff()
    delays = [backoff.worker_ended(0, 0) for _ in range(20)]

    assert max(delays) == LONGEST_DELAY


def test_delay_has_one_however_long_the_outage_takes() -> None:
    backoff = Backoff()
    # At 30 seconds each, a night; with more workers at once, an hour.
    delays = [backoff.worker_ended(0, 0) for _ in range(3000)]

    assert delays[-1] == max(delays) == LONGEST_DELAY


def test_many_short_lives_are_a_storm_until_a_worker_serves() -> None:
    backoff = Backoff()
    for _ in range(STORM_COUNT):
        backoff.worker_ended(0, 0)
    assert backoff.is_storm
    backoff.worker_ended(served=60, now=0)

    assert not backoff.is_storm


def test_new_code_starts_without_a_delay() -> None:
    backoff = Backoff()
    backoff.worker_ended(0, 0)
    backoff.reset()

    assert backoff.wait(0) == 0
