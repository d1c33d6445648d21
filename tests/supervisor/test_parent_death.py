"""What becomes of real processes when their parent is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from djserve.supervisor.parent_death import die_with, is_hung_up

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's"),
]

# Starts a child that runs CODE, prints its process id, and waits to be killed.
PARENT = """
import os, socket, subprocess, sys, time
from djserve.supervisor.parent_death import die_with
ours, theirs = socket.socketpair()
child = subprocess.Popen(
    [sys.executable, "-c", sys.argv[1], str(theirs.fileno())],
    pass_fds=[theirs.fileno()], preexec_fn=die_with(os.getpid()),
    stdout=subprocess.PIPE, text=True,
)
theirs.close()
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""

SLEEPER = "import time; print(flush=True); time.sleep(600)"
WORKER = """
import sys, time
from djserve.supervisor.parent_death import end_after
end_after(int(sys.argv[1]), 1.0)
print(flush=True)
while True:
    time.sleep(600)
"""


def state_of(pid: int) -> str:
    """Return the state of a process as the kernel names it, "" once it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def wait_for_state(pid: int, *states: str) -> None:
    deadline = time.monotonic() + 120
    while state_of(pid) not in states:
        assert time.monotonic() < deadline, f"{pid} is {state_of(pid)}"
        time.sleep(0.02)


@pytest.mark.parametrize("code", [SLEEPER, WORKER], ids=["loading", "serving"])
@pytest.mark.parametrize("is_stopped", [False, True], ids=["running", "stopped"])
def test_child_ends_with_its_parent(code: str, is_stopped: bool) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, code], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    if is_stopped:
        os.kill(child, signal.SIGSTOP)
        wait_for_state(child, "T")
    parent.kill()
    parent.communicate()

    wait_for_state(child, "", "Z")


def test_child_of_a_parent_that_is_gone_does_not_begin() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], preexec_fn=die_with(1 << 30))

    assert process.wait(120) == 1


def test_end_of_the_peer_is_seen_at_the_descriptor() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.send(b"unread")
        assert not is_hung_up(ours.fileno())
        theirs.close()
        assert is_hung_up(ours.fileno())
