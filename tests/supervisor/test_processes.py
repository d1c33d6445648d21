"""Loaders and workers as the supervisor knows them, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from djserve.conf.parser import parse
from djserve.instrumentation.board import Figure
from djserve.supervisor.messages import PRELOAD_OFF, WorkerState
from djserve.supervisor.processes import (
    Launcher,
    Worker,
    command_line,
    working_directory,
)
from djserve.supervisor.system import resident_memory
from tests.support.descriptors import open_descriptors

pytestmark = pytest.mark.e2e

LOADER = """
import os
from djserve.net.channel import Channel
from djserve.supervisor.inheritance import LOADER_VARIABLE, ChildEnvironment
given = ChildEnvironment.take()
channel = Channel.adopt(given.channel)
channel.send({
    "directory": os.getcwd(),
    "sockets": [os.fstat(number).st_ino for number in given.sockets],
    "is_known_to_children": LOADER_VARIABLE in os.environ,
})
"""

SLEEPER = [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits to be ended."""
    process = subprocess.Popen(SLEEPER, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_loader_finds_its_directory_channel_and_sockets(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    arguments = [sys.executable, "-c", LOADER]
    config = parse({}).workers
    loader = Launcher(config, [reader], arguments, str(tmp_path)).start()
    inode = os.fstat(reader).st_ino
    assert loader.process.wait(120) == 0
    (message,) = loader.channel.receive()

    assert message["directory"] == str(tmp_path)
    assert message["sockets"] == [inode]
    assert not message["is_known_to_children"]
    loader.close()
    os.close(reader)
    os.close(writer)


def test_loader_forks_only_once_it_has_loaded_without_an_obstacle() -> None:
    arguments = [sys.executable, "-c", ""]
    loader = Launcher(parse({}).workers, [], arguments).start()
    loader.process.wait(120)
    seen = [loader.can_fork]
    loader.is_loaded = True
    seen.append(loader.can_fork)
    loader.obstacle = "it has started threads"
    seen.append(loader.can_fork)

    assert seen == [False, True, False]
    assert loader.is_obstacle_unexpected
    loader.close()


def test_preload_that_is_off_is_an_expected_obstacle() -> None:
    arguments = [sys.executable, "-c", ""]
    loader = Launcher(parse({}).workers, [], arguments).start()
    loader.process.wait(120)
    loader.obstacle = PRELOAD_OFF

    assert not loader.is_obstacle_unexpected
    loader.close()
    # Told to quit after its channel is closed, it is simply left alone.
    loader.quit()


def test_program_that_is_not_there_leaves_no_descriptor_open(tmp_path: Path) -> None:
    launcher = Launcher(parse({}).workers, [], [str(tmp_path / "missing")])
    before = open_descriptors()
    with pytest.raises(FileNotFoundError):
        launcher.start()

    assert open_descriptors() <= before


@pytest.mark.parametrize("setting", ["USER", "GROUP"])
def test_name_that_the_system_does_not_know_is_its_error(setting: str) -> None:
    config = parse({setting: "nobody-of-this-name"}).workers

    with pytest.raises(OSError, match="nobody-of-this-name"):
        Launcher(config, [], SLEEPER).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_user_who_may_not_run_the_program_is_named(tmp_path: Path) -> None:
    # The folder has mode 0700, as a home has, so that root alone may enter it.
    place = tmp_path / "home"
    place.mkdir(0o700)
    (place / "python").symlink_to(sys.executable)
    arguments = [str(place / "python"), "-c", ""]
    config = parse({"USER": "nobody"}).workers

    with pytest.raises(PermissionError, match=r"denied for the user nobody: .*python"):
        Launcher(config, [], arguments, "/").start()


def test_worker_is_named_by_number_and_process(worker: Worker) -> None:
    assert str(worker) == "Worker 7"
    worker.pid = 123

    assert str(worker) == "Worker 7 (process 123)"


def test_silence_is_counted_from_the_last_beat(worker: Worker) -> None:
    worker.ready_at = 10.0
    assert worker.silence(12.0) == 2.0
    worker.board.numbers[Figure.HEARTBEAT] = 11 * 10**9

    assert worker.silence(12.0) == 1.0


def test_worker_that_starts_is_ended_by_a_signal(
    worker: Worker, sleeper: subprocess.Popen[bytes]
) -> None:
    worker.pid = sleeper.pid
    worker.tell_to_stop()

    assert sleeper.wait(120) == -signal.SIGTERM


def test_worker_that_serves_is_only_asked_to_end(
    worker: Worker, sleeper: subprocess.Popen[bytes]
) -> None:
    worker.pid = sleeper.pid
    worker.state = WorkerState.READY
    worker.tell_to_stop()
    # Of two signals that wait, the one with the lower number comes first.
    sleeper.send_signal(signal.SIGVTALRM)

    assert sleeper.wait(120) == -signal.SIGVTALRM


def test_signal_to_a_process_that_has_ended_does_nothing(
    worker: Worker, sleeper: subprocess.Popen[bytes]
) -> None:
    worker.send_signal(signal.SIGTERM)
    sleeper.kill()
    sleeper.wait()
    worker.pid = sleeper.pid
    worker.send_signal(signal.SIGTERM)


def test_closed_worker_leaves_no_descriptor_open() -> None:
    before = open_descriptors()
    Worker(1, 1, 0.0).close()

    assert open_descriptors() <= before


def test_memory_of_a_process_is_told_in_bytes() -> None:
    assert 2**20 < resident_memory(os.getpid()) < 2**40
    assert resident_memory(None) == 0


def test_directory_keeps_the_name_that_the_shell_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, link = tmp_path / "release", tmp_path / "current"
    release.mkdir()
    link.symlink_to(release)
    monkeypatch.chdir(link)
    monkeypatch.setenv("PWD", str(link))
    assert working_directory() == str(link)
    monkeypatch.setenv("PWD", str(tmp_path / "gone"))

    assert working_directory() == str(release)


def test_program_is_started_with_the_same_interpreter_and_options() -> None:
    program = (
        "from djserve.supervisor.processes import command_line; print(command_line())"
    )
    command = [sys.executable, "-W", "error", "-c", program, "--workers", "2"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert output.strip() == repr(command)
    assert command_line()[0] == sys.executable
