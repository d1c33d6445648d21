"""What workers say they are doing, asked over real channels."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from djserve.net.channel import Channel
from djserve.supervisor.processes import Worker
from djserve.supervisor.reports import REPORT_TIMEOUT, Reports

CALL = {"path": "/", "age": 1.5}


@pytest.fixture
def far_end(worker: Worker) -> Iterator[Channel]:
    """The channel that the worker's process would have."""
    channel = Channel.adopt(os.dup(worker.take_descriptors()[0]))
    yield channel
    channel.close()


def test_workers_are_asked_what_they_do(worker: Worker, far_end: Channel) -> None:
    Reports().ask([worker], lambda calls: None)

    assert far_end.receive() == [{"command": "report", "id": 1}]


def test_answers_are_passed_on_once_all_have_come(worker: Worker) -> None:
    reports, told = Reports(), list[object]()
    reports.ask([worker], told.append)
    assert told == []
    reports.take(1, worker.number, [CALL])

    assert told == [{7: [CALL]}]


def test_without_workers_the_answer_is_there_at_once() -> None:
    told: list[object] = []
    Reports().ask([], told.append)

    assert told == [{}]


def test_worker_that_does_not_answer_in_time_is_left_out(worker: Worker) -> None:
    reports, told = Reports(), list[object]()
    now = time.monotonic()
    reports.ask([worker], told.append)
    reports.tick(now)
    assert told == []
    reports.tick(now + REPORT_TIMEOUT + 1)
    assert told == [{}]
    reports.take(1, worker.number, [CALL])

    assert told == [{}]
