"""A server in a process, started as Channels' test case starts Daphne's."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from djserve.testing.process import DjserveProcess
from tests.support.waiting import PATIENCE

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


def test_function_that_cannot_be_pickled_is_named_where_nothing_forks(
    tmp_path: Path,
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing\n"
        "multiprocessing.set_start_method('forkserver')\n"
        "from djserve.testing.process import DjserveProcess\n"
        "DjserveProcess('127.0.0.1', lambda: None).start()\n"
    )
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=PATIENCE
    )
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("TypeError: DjserveProcess: get_application is <function")


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_process_serves_where_nothing_forks(method: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, urllib.request\n"
        "async def hello(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': b'hello'})\n"
        "def get_application():\n"
        "    return hello\n"
        "if __name__ == '__main__':\n"
        f"    multiprocessing.set_start_method({method!r})\n"
        "    from djserve.testing.process import DjserveProcess\n"
        "    process = DjserveProcess(\n"
        "        '127.0.0.1', get_application, {'LIFESPAN': 'off'}\n"
        "    )\n"
        "    process.start()\n"
        "    process.ready.wait()\n"
        "    url = f'http://127.0.0.1:{process.port.value}/'\n"
        "    print(urllib.request.urlopen(url).read().decode())\n"
        "    process.terminate()\n"
        "    process.join()\n"
    )
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (ended.stdout, ended.returncode) == ("hello\n", 0), ended.stderr
