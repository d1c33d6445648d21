"""Signals to real processes from their first moments on."""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from djserve.server import first_signals, lifecycle
from tests.faults.bench import children_of

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="reads what a process handles in /proc"
)

APPLICATION = """
import os, time
open("loading", "w").close()
while not os.path.exists("go"):
    time.sleep(0.01)
async def application(scope, receive, send):
    raise NotImplementedError
"""

GUARD = 120.0


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put the handlers of this process back after the test."""
    before = {number: signal.getsignal(number) for number in first_signals.HELD}
    yield
    first_signals.release()
    for number, handler in before.items():
        signal.signal(number, handler)


_started: list[subprocess.Popen[Any]] = []


@pytest.fixture(autouse=True)
def _end_servers() -> Iterator[None]:
    """Leave no server to the next tests if one fails."""
    yield
    while _started:
        process = _started.pop()
        process.kill()
        process.wait(GUARD)


@contextmanager
def default_actions() -> Iterator[None]:
    """Have what is started take the signals, even if nohup has us ignore one."""
    before = {number: signal.getsignal(number) for number in first_signals.HELD}
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start(folder: Path, port: int, *options: str) -> subprocess.Popen[bytes]:
    """Start a server whose application is loaded once there is a file ``go``."""
    (folder / "app.py").write_text(APPLICATION)
    words = [sys.executable, "-m", "djserve", "app:application", *options]
    with (folder / "log").open("ab") as log, default_actions():
        process = subprocess.Popen(
            [*words, "--bind", f"127.0.0.1:{port}"],
            cwd=folder,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": ""},
            stdin=subprocess.DEVNULL,
            stderr=log,
            # Without a terminal, as a service manager starts it.
            start_new_session=True,
        )
    _started.append(process)
    return process


def holds(process: subprocess.Popen[bytes], number: int) -> bool:
    """Return whether a process handles, blocks or ignores a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    masks = [line.split()[1] for line in status.splitlines() if line.startswith("Sig")]
    # SigQ, SigPnd, SigBlk, SigIgn, SigCgt.
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks[2:])


def wait_until_held(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + GUARD
    while not all(holds(process, number) for number in first_signals.HELD):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)


def wait_for_log(process: subprocess.Popen[bytes], folder: Path, text: str) -> None:
    deadline = time.monotonic() + GUARD
    while text not in (folder / "log").read_text():
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.02)


def send_some(process: subprocess.Popen[bytes]) -> None:
    """Send a few signals, each at a random moment."""
    for _ in range(6):
        time.sleep(random.random() * 0.1)
        assert process.poll() is None
        process.send_signal(random.choice((signal.SIGHUP, signal.SIGUSR1)))


@pytest.mark.e2e
@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_signals_at_any_moment_of_a_start_end_nothing(
    tmp_path: Path, free_port: int, options: tuple[str, ...]
) -> None:
    process = start(tmp_path, free_port, *options)
    wait_until_held(process)
    send_some(process)
    # Those that come while the application is loaded, or at once after that.
    (tmp_path / "go").touch()
    send_some(process)
    wait_for_log(process, tmp_path, "Listening on")
    process.terminate()

    assert process.wait(GUARD) == 0


@pytest.mark.e2e
@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_signals_while_a_server_ends_do_not_change_how(
    tmp_path: Path, free_port: int, options: tuple[str, ...]
) -> None:
    (tmp_path / "go").touch()
    process = start(tmp_path, free_port, *options)
    wait_for_log(process, tmp_path, "Listening on")
    process.terminate()
    deadline = time.monotonic() + GUARD
    while process.poll() is None:
        assert time.monotonic() < deadline
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.001)

    assert process.returncode == 0, (tmp_path / "log").read_text()


@pytest.mark.e2e
def test_signals_after_an_error_do_not_hide_it(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "go").touch()
    with socket.create_server(("127.0.0.1", free_port)):
        process = start(tmp_path, free_port)
        wait_until_held(process)
        deadline = time.monotonic() + GUARD
        while process.poll() is None:
            assert time.monotonic() < deadline
            process.send_signal(signal.SIGUSR1)
            time.sleep(0.001)

    assert process.returncode == 1
    assert "the address is in use" in (tmp_path / "log").read_text()


@pytest.mark.e2e
def test_sighup_that_has_nothing_to_load_again_is_told(
    tmp_path: Path, free_port: int
) -> None:
    process = start(tmp_path, free_port)
    wait_for = "SIGHUP: there is nothing to load again"
    wait_until_held(process)
    # The first comes while the application is loaded.
    process.send_signal(signal.SIGHUP)
    (tmp_path / "go").touch()
    wait_for_log(process, tmp_path, wait_for)
    wait_for_log(process, tmp_path, "Listening on")
    process.terminate()

    assert process.wait(GUARD) == 0


@pytest.mark.e2e
def test_sigterm_while_the_application_is_loaded_ends_the_process(
    tmp_path: Path, free_port: int
) -> None:
    process = start(tmp_path, free_port)
    deadline = time.monotonic() + GUARD
    while not (tmp_path / "loading").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()

    assert process.wait(GUARD) == -signal.SIGTERM


@pytest.mark.usefixtures("handlers")
def test_signals_are_noted_and_taken_once() -> None:
    for number in first_signals.HELD:
        signal.signal(number, signal.SIG_DFL)
    first_signals.hold()
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGHUP)

    assert first_signals.is_holding()
    assert first_signals.take([signal.SIGUSR1]) == []
    assert first_signals.take([signal.SIGHUP, signal.SIGUSR1]) == [signal.SIGHUP]
    assert first_signals.take([signal.SIGHUP]) == []


@pytest.mark.usefixtures("handlers")
def test_ignored_signals_stay_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    first_signals.hold()

    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize("has_terminal", [True, False])
def test_end_of_the_terminal_stops_the_server(
    has_terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stops: list[bool] = []

    class Server:
        def stop(self) -> None:
            stops.append(True)

    monkeypatch.setattr(first_signals, "has_terminal", lambda: has_terminal)
    with caplog.at_level(logging.WARNING):
        lifecycle._hang_up(Server())  # type: ignore[arg-type]

    assert bool(stops) is has_terminal
    assert any("SIGHUP" in text for text in caplog.messages) is not has_terminal


@pytest.mark.e2e
def test_process_in_its_own_session_has_no_terminal() -> None:
    code = (
        "import os, sys\n"
        "from djserve.server.first_signals import has_terminal\n"
        "sys.exit(has_terminal())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], start_new_session=True, timeout=GUARD
    )

    assert done.returncode == 0


AS_PROCESS_1 = """
import os, time
from djserve.server import first_signals

def wait():
    # Not signal.pause(): a signal that comes just before it would not end it.
    while True:
        time.sleep(0.02)

first_signals._INIT = os.getpid()
first_signals.hold()
if not (child := os.fork()):
    print("forked", flush=True)
    wait()
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), flush=True)
wait()
"""


@pytest.mark.e2e
def test_process_1_ends_by_sigterm_before_it_serves() -> None:
    """The kernel takes no default action for it; a fork of it ends as any process."""
    words = [sys.executable, "-c", AS_PROCESS_1]
    process: subprocess.Popen[str]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    _started.append(process)
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == "forked\n"
        (child,) = children_of(process.pid)
        os.kill(child, signal.SIGTERM)
        assert output.readline() == f"{-signal.SIGTERM}\n"
        process.terminate()

        assert process.wait(GUARD) == 128 + signal.SIGTERM
