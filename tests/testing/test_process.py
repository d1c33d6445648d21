"""A server in a process, started as Channels' test case starts Daphne's."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from djserve.testing.process import DjserveProcess

pytestmark = [
    pytest.mark.e2e,
    # The suite has threads by then; the child uses none of them.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def get_application() -> Any:
    return hello


def fail() -> Any:
    raise ValueError("no application")


@pytest.fixture
def stopped() -> Iterator[list[DjserveProcess]]:
    processes: list[DjserveProcess] = []
    yield processes
    for process in processes:
        process.terminate()
        process.join(60)
        process.close()


def test_process_tells_its_port_and_serves(stopped: list[DjserveProcess]) -> None:
    torn_down = multiprocessing.Event()
    process = DjserveProcess(
        "127.0.0.1",
        get_application,
        kwargs={"LIFESPAN": "off", "SERVER_NAME": "child"},
        setup=lambda: None,
        teardown=torn_down.set,
    )
    stopped.append(process)
    process.start()

    assert process.ready.wait(120)
    response = httpx.get(f"http://127.0.0.1:{process.port.value}/", timeout=60)
    assert (response.text, response.headers["server"]) == ("hello", "child")
    process.terminate()
    process.join(60)
    assert torn_down.is_set()


def test_process_serves_until_it_is_terminated() -> None:
    called: list[str] = []
    process = DjserveProcess(
        "127.0.0.1",
        get_application,
        setup=lambda: called.append("setup"),
        teardown=lambda: called.append("teardown"),
    )

    def terminate() -> None:
        if process.ready.wait(120):
            os.kill(os.getpid(), signal.SIGTERM)

    client = threading.Thread(target=terminate)
    client.start()
    # Here in the test's own process, which is what a coverage tool can see.
    process.run()
    client.join()

    assert called == ["setup", "teardown"]
    assert process.port.value


def test_address_in_use_is_told_to_the_parent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = DjserveProcess("127.0.0.1", get_application, port=port)
        process.run()

    error, _ = process.errors.get(timeout=60)
    assert "LISTEN_FAILED" in str(error)


def test_failure_is_told_to_the_parent(stopped: list[DjserveProcess]) -> None:
    process = DjserveProcess("127.0.0.1", fail)
    stopped.append(process)
    process.start()

    error, text = process.errors.get(timeout=60)
    assert repr(error) == "ValueError('no application')"
    assert "Traceback" in text
    assert not process.ready.is_set()
