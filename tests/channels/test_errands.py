from __future__ import annotations

import socket
import threading

import pytest

from djserve.channels.errands import Errands
from tests.support.shortage import without_descriptors

PATIENCE = 60


def test_work_is_done_in_a_thread_until_there_is_none() -> None:
    steps, done = [True, True, False], threading.Event()

    def work() -> list[int] | None:
        if steps and steps.pop(0):
            return []
        done.set()
        return None

    errands = Errands(work)
    errands.start()
    errands.start()

    assert done.wait(PATIENCE)
    errands.close()


def test_what_comes_after_the_end_starts_again() -> None:
    rounds = threading.Semaphore(0)

    def work() -> None:
        rounds.release()

    errands = Errands(work)
    for _ in range(3):
        errands.start()
        # It looks twice before it ends.
        assert rounds.acquire(timeout=PATIENCE)
        assert rounds.acquire(timeout=PATIENCE)
    errands.close()


def test_thread_ends_once_it_is_closed() -> None:
    began = threading.Event()

    def work() -> list[int]:
        began.set()
        return []

    errands = Errands(work)
    errands.start()
    assert began.wait(PATIENCE)
    errands.close()
    for thread in threading.enumerate():
        if thread.name == "djserve-channels":
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_room_in_a_socket_ends_the_pause_and_a_closed_one_does_no_harm() -> None:
    one, other = socket.socketpair()
    closed = socket.socket()
    number = closed.fileno()
    closed.close()
    rounds, done = iter(range(200)), threading.Event()

    def work() -> list[int] | None:
        if next(rounds, None) is None:
            done.set()
            return None
        return [one.fileno(), number]

    errands = Errands(work)
    with one, other:
        errands.start()
        # A pause of 20 ms and more each would be 200 times that.
        assert done.wait(PATIENCE)
    errands.close()


def test_work_that_fails_is_tried_again_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures, done = iter(range(3)), threading.Event()

    def work() -> None:
        if next(failures, None) is not None:
            raise OSError("not now")
        done.set()

    errands = Errands(work)
    errands.start()

    assert done.wait(PATIENCE)
    errands.close()
    assert caplog.text.count("OSError: not now") == 1


def test_work_goes_on_without_a_descriptor_to_wait_with() -> None:
    one, other = socket.socketpair()
    rounds, done = iter(range(3)), threading.Event()

    def work() -> list[int] | None:
        if next(rounds, None) is None:
            done.set()
            return None
        return [one.fileno()]

    errands = Errands(work)
    with one, other, without_descriptors():
        errands.start()
        assert done.wait(PATIENCE)
    errands.close()
