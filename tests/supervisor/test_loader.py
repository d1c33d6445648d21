"""A real loader, talked to as its supervisor does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from djserve.net.channel import Channel, Message
from djserve.supervisor.messages import PRELOAD_OFF
from djserve.supervisor.processes import Loader, Worker

pytestmark = pytest.mark.e2e

Hear = Callable[[Channel], Message]
StartLoader = Callable[..., Loader]

LOADED = {"event": "loaded", "obstacle": "", "notes": []}


def find_obstacle_after(code: str) -> str:
    """Return what speaks against a fork in a process that has run ``code``."""
    program = (
        f"{code}\n"
        "from djserve.supervisor.loader import find_obstacle\n"
        "print(find_obstacle())\n"
    )
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=300
    ).stdout.strip()


@pytest.mark.parametrize(
    ("code", "obstacle"),
    [
        ("", ""),
        (
            "import threading\n"
            "threading.Thread(target=threading.Event().wait, daemon=True,"
            " name='poller').start()",
            "it has started threads (poller)",
        ),
        (
            "import twisted.internet.reactor",
            "it has imported Twisted's reactor",
        ),
    ],
)
def test_obstacle_to_a_fork_is_found(code: str, obstacle: str) -> None:
    assert find_obstacle_after(code) == obstacle


# As on macOS with a Python before 3.13.
WITHOUT_WAITID = "import os; vars(os).pop('waitid', None)"
CHILD = (
    "import subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-c', {!r}], stdin=subprocess.PIPE)"
)


@pytest.mark.parametrize("before", ["", WITHOUT_WAITID], ids=["waitid", "without"])
def test_processes_that_the_application_has_started_are_an_obstacle(
    before: str,
) -> None:
    # It reads until this process has ended.
    runs = CHILD.format("import sys; sys.stdin.read()")
    assert find_obstacle_after(f"{before}\n{runs}") == "it has started processes"
    has_ended = f"{CHILD.format('')}\nchild.wait()"
    assert find_obstacle_after(f"{before}\n{has_ended}") == ""
    assert find_obstacle_after(before) == ""


def test_child_that_has_ended_and_was_not_waited_for_is_no_obstacle() -> None:
    # The pipe is at its end when the child has ended.
    has_ended = (
        f"{WITHOUT_WAITID}\n"
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', ''], stdout=subprocess.PIPE)\n"
        "child.stdout.read()\n"
        "stat = f'/proc/{child.pid}/stat'\n"
        "while open(stat).read().rpartition(')')[2][1] != 'Z': pass"
    )
    assert find_obstacle_after(has_ended) == ""


def test_loader_tells_that_it_has_the_application(
    start_loader: StartLoader, hear: Hear
) -> None:
    assert hear(start_loader().channel) == LOADED


def test_loader_tells_what_is_wrong_with_the_application(
    start_loader: StartLoader, hear: Hear, project: Path
) -> None:
    (project / "app.py").write_text("def broken(:\n")
    loader = start_loader()
    message = hear(loader.channel)

    assert message["event"] == "failed"
    assert "SyntaxError" in message["problems"][0]
    assert loader.process.wait(120) == 2


def test_without_preload_nothing_is_loaded(
    start_loader: StartLoader, hear: Hear, project: Path
) -> None:
    (project / "app.py").write_text("raise RuntimeError('loaded')\n")

    assert hear(start_loader("--no-preload").channel) == {
        **LOADED,
        "obstacle": PRELOAD_OFF,
    }


def test_application_with_a_reactor_of_its_own_is_refused(
    start_loader: StartLoader, hear: Hear, project: Path
) -> None:
    (project / "app.py").write_text("import twisted.internet.reactor\n")
    with (project / "app.py").open("a") as file:
        file.write("async def application(scope, receive, send): ...\n")
    message = hear(start_loader().channel)

    assert message["event"] == "failed"
    assert message["problems"][0].startswith("Set PRELOAD to False")


def test_forked_worker_is_told_of_from_its_beginning_to_its_end(
    start_loader: StartLoader, hear: Hear, worker: Worker
) -> None:
    loader = start_loader()
    hear(loader.channel)
    loader.fork(worker)
    worker.handed_over()
    born = hear(loader.channel)
    pid = born["pid"]
    assert born == {"event": "forked", "number": 7, "pid": pid}
    assert hear(worker.channel)["pid"] == pid
    os.kill(pid, signal.SIGKILL)

    assert hear(loader.channel) == {"event": "exited", "pid": pid, "code": -9}


def test_loader_can_become_a_worker_itself(
    start_loader: StartLoader, hear: Hear, worker: Worker
) -> None:
    loader = start_loader()
    hear(loader.channel)
    loader.become(worker)
    worker.handed_over()

    assert hear(worker.channel)["pid"] == loader.process.pid
    with pytest.raises(EOFError):
        hear(loader.channel)


def test_loader_that_is_told_to_quit_waits_for_its_workers(
    start_loader: StartLoader, hear: Hear, worker: Worker
) -> None:
    loader = start_loader()
    hear(loader.channel)
    loader.fork(worker)
    worker.handed_over()
    loader.quit()
    hear(worker.channel)
    assert loader.process.poll() is None
    worker.channel.send({"command": "stop"})

    assert loader.process.wait(120) == 0


def test_loader_ends_with_its_supervisor(start_loader: StartLoader, hear: Hear) -> None:
    loader = start_loader()
    hear(loader.channel)
    loader.close()

    assert loader.process.wait(120) == 0


def test_signals_of_the_terminal_do_not_end_a_loader(
    start_loader: StartLoader, hear: Hear
) -> None:
    loader = start_loader()
    hear(loader.channel)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        loader.process.send_signal(number)
    loader.quit()

    assert loader.process.wait(120) == 0
