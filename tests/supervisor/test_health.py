"""A real process whose loop is said to be blocked, at times that the test makes up."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from djserve.conf.parser import parse
from djserve.instrumentation.board import Field
from djserve.supervisor.health import (
    DUMP_LIMIT,
    DUMP_TIME,
    KILL_TIMEOUT,
    check_loop,
)
from djserve.supervisor.processes import Worker
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
        self.worker.board.numbers[Field.HEARTBEAT] = int(now * 1e9)

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
