"""The rule that keeps ``make unit`` fast: what a test without ``e2e`` may not do."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading

import pytest

from tests.support.isolation import watching

# They do what the rule forbids, to see that it is seen.
pytestmark = pytest.mark.e2e


def connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        socket.create_connection(listener.getsockname()).close()


def test_sockets_that_lead_out_are_seen() -> None:
    with watching() as found:
        connect()

    assert {"socket.bind", "socket.connect"} <= set(found)


def test_process_is_seen() -> None:
    with watching() as found:
        subprocess.run([sys.executable, "-c", ""], check=True)

    assert "subprocess.Popen" in found


def test_event_loop_is_free() -> None:
    with watching() as found:
        asyncio.run(asyncio.sleep(0))

    assert found == []


def test_thread_that_was_there_before_is_not_blamed_on_the_test() -> None:
    gate, done = threading.Event(), threading.Event()

    def late() -> None:
        gate.wait(60)
        connect()
        done.set()

    older = threading.Thread(target=late)
    older.start()
    with watching() as found:
        gate.set()
        assert done.wait(60)
    older.join(60)

    assert found == []


def test_thread_of_the_test_itself_is_seen() -> None:
    with watching() as found:
        thread = threading.Thread(target=connect)
        thread.start()
        thread.join(60)

    assert "socket.connect" in found


def test_new_threads_may_be_left_out() -> None:
    with watching(in_new_threads=False) as found:
        thread = threading.Thread(target=connect)
        thread.start()
        thread.join(60)

    assert found == []
