"""A supervisor in a process of its own: how it starts, and how it ends."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

FAILS_TO_START = """
async def application(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""


class Supervised:
    """The process of a supervisor with one worker, and what it prints."""

    def __init__(self, project: Path, *options: str) -> None:
        self.log = project / "server.log"
        command = [sys.executable, "-m", "djserve", "app:application"]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "--supervisor", "on", "--workers", "1", *options],
                cwd=project,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str, count: int = 1) -> None:
        """Return once the text has been printed so many times."""
        deadline = time.monotonic() + 120
        while self.output.count(text) < count:
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGQUIT)
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"the supervisor did not end:\n{self.output}")


Supervise = Callable[..., Supervised]


@pytest.fixture
def supervise(project: Path, free_port: int) -> Iterator[Supervise]:
    """Give ``supervise(*options)``: a supervisor on ``free_port``."""
    started: list[Supervised] = []

    def supervise(*options: str) -> Supervised:
        address = f"127.0.0.1:{free_port}"
        started.append(Supervised(project, "--bind", address, *options))
        return started[-1]

    yield supervise
    for supervised in started:
        supervised.end()


def test_start_is_announced_once_and_a_reload_is_not(supervise: Supervise) -> None:
    supervised = supervise()
    supervised.wait_for(f"Supervisor {supervised.process.pid}, 1 worker")
    supervised.signal(signal.SIGHUP)
    supervised.wait_for("All workers run the new code")
    supervised.signal(signal.SIGTERM)

    assert supervised.process.wait(120) == 0
    assert supervised.output.count("Listening on") == 1


def test_address_that_is_taken_ends_with_its_exit_code(
    supervise: Supervise, free_port: int
) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        supervised = supervise()

        assert supervised.process.wait(120) == 1
    assert "Cannot listen on" in supervised.output


def test_control_socket_that_cannot_be_made_ends_with_its_exit_code(
    supervise: Supervise, tmp_path: Path
) -> None:
    supervised = supervise("--control-socket", str(tmp_path / "missing" / "control"))

    assert supervised.process.wait(120) == 1
    assert "Cannot listen on" in supervised.output


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("def broken(:\n", 2),
        (FAILS_TO_START, 3),
        ("async def application(*_):\n    import os\n    os._exit(77)\n", 1),
    ],
    ids=["does not load", "does not start", "has an exit code of its own"],
)
def test_application_that_never_served_ends_the_supervisor(
    supervise: Supervise, project: Path, code: str, exit_code: int
) -> None:
    (project / "app.py").write_text(code)

    assert supervise().process.wait(120) == exit_code


def test_files_go_with_the_supervisor(supervise: Supervise, tmp_path: Path) -> None:
    control, pid = tmp_path / "control", tmp_path / "pid"
    supervised = supervise("--control-socket", str(control), "--pid-file", str(pid))
    supervised.wait_for("Supervisor")
    assert int(pid.read_text()) == supervised.process.pid
    assert control.is_socket()
    supervised.signal(signal.SIGTERM)

    assert supervised.process.wait(120) == 0
    assert not control.exists()
    assert not pid.exists()


def test_third_request_to_stop_kills_a_blocked_worker(
    supervise: Supervise, free_port: int
) -> None:
    never = ("--worker-hang-timeout", "600", "--shutdown-timeout", "600")
    supervised = supervise(*never)
    supervised.wait_for("Supervisor")
    client = http.client.HTTPConnection("127.0.0.1", free_port, timeout=120)
    client.request("GET", "/block")
    supervised.wait_for("blocked")
    for told in ("Stopping", "Stopping at once", "Killing the workers"):
        assert supervised.process.poll() is None
        supervised.signal(signal.SIGTERM)
        supervised.wait_for(f"{told}\n")
    client.close()

    # Long before one of the timeouts would end it.
    assert supervised.process.wait(120) == 0


def test_successor_that_cannot_start_leaves_the_supervisor_serving(
    supervise: Supervise, project: Path, free_port: int
) -> None:
    supervised = supervise()
    supervised.wait_for("Supervisor")
    (project / "app.py").write_text("def broken(:\n")
    supervised.signal(signal.SIGUSR2)
    supervised.wait_for("The successor ended with 2; serving on")
    client = http.client.HTTPConnection("127.0.0.1", free_port, timeout=60)
    client.request("GET", "/")

    assert client.getresponse().status == 200
    client.close()


def test_reload_does_not_keep_it_from_ending(
    supervise: Supervise, project: Path, free_port: int
) -> None:
    supervised = supervise()
    supervised.wait_for("Supervisor")
    # Until it has its answer, the supervisor is there for the signals.
    client = http.client.HTTPConnection("127.0.0.1", free_port, timeout=120)
    client.request("GET", "/hold")
    supervised.wait_for("held")
    supervised.signal(signal.SIGHUP)
    supervised.wait_for("Reloading")
    supervised.signal(signal.SIGTERM)
    supervised.wait_for("Stopping")
    supervised.signal(signal.SIGHUP)
    (project / "released").touch()
    client.close()

    assert supervised.process.wait(120) == 0
    assert supervised.output.count("Reloading") == 1


def test_successor_that_hangs_is_killed_and_another_may_follow(
    supervise: Supervise, project: Path, free_port: int
) -> None:
    supervised = supervise("--worker-start-timeout", "15")
    supervised.wait_for("Supervisor")
    (project / "app.py").write_text("import time\ntime.sleep(600)\n")
    supervised.signal(signal.SIGUSR2)
    # Its own deadline for the loader is the first of the two.
    supervised.wait_for("The successor ended with 1; serving on")
    supervised.signal(signal.SIGUSR2)
    supervised.wait_for("Starting a successor", 2)
    supervised.signal(signal.SIGTERM)

    assert supervised.process.wait(120) == 0
