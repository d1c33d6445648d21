"""What the commands share: origins, logs, process id file, message, imports, end."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from djserve.asgi.origin import OriginPolicy
from djserve.conf.parser import parse
from djserve.errors import ConfigError
from djserve.handlers.channels import refuse_websockets
from djserve.net.twisted.reactor import Reactor
from djserve.server import launch as launching
from djserve.server.launch import (
    choose_origin_policy,
    exit_within,
    import_websocket_beside,
    launch,
    pid_file,
    uses_django,
)
from djserve.server.lifecycle import ExitCode, Server
from tests.support.logs import own_records
from tests.support.odd_files import KINDS, make_odd_file

pytestmark = pytest.mark.e2e

Stopping = Callable[..., None]


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Stopping:
    """Give ``stopping(*actions)``: what a server does when it is ready.

    It runs the actions and then stops, as a terminal would stop it.
    """

    def prepare(*actions: Callable[[], object]) -> None:
        announce = launching._announce

        def act() -> None:
            for action in actions:
                action()
            os.kill(os.getpid(), signal.SIGTERM)

        def announce_and_act(server: Server, *rest: Any) -> None:
            announce(server, *rest)
            asyncio.get_running_loop().call_soon(act)

        monkeypatch.setattr(launching, "_announce", announce_and_act)

    return prepare


def test_start_is_told_and_a_signal_stops(
    reactor: Reactor, stopping: Stopping, caplog: pytest.LogCaptureFixture
) -> None:
    stopping()
    with caplog.at_level(logging.INFO, "djserve"):
        code = launch(nothing, parse({"BIND": ["127.0.0.1:0"]}), reactor, ["A note"])

    assert code is ExitCode.OK
    lines = [record.getMessage() for record in own_records(caplog)]
    assert any(line.startswith("Listening on http://127.0.0.1:") for line in lines)
    assert "A note" in lines


def test_process_id_is_in_its_file_while_it_runs(
    reactor: Reactor, stopping: Stopping, tmp_path: Path
) -> None:
    path = tmp_path / "djserve.pid"
    seen: list[str] = []
    stopping(lambda: seen.append(path.read_text()))
    config = parse({"BIND": ["127.0.0.1:0"], "PID_FILE": str(path)})
    launch(nothing, config, reactor)

    assert seen == [f"{os.getpid()}\n"]
    assert not path.exists()


def test_process_id_file_of_another_server_is_left(
    reactor: Reactor, stopping: Stopping, tmp_path: Path
) -> None:
    path = tmp_path / "djserve.pid"
    stopping(lambda: path.write_text("1\n"))
    config = parse({"BIND": ["127.0.0.1:0"], "PID_FILE": str(path)})
    launch(nothing, config, reactor)

    assert path.read_text() == "1\n"


def test_process_id_file_may_be_gone_at_the_end(
    reactor: Reactor, stopping: Stopping, tmp_path: Path
) -> None:
    path = tmp_path / "djserve.pid"
    stopping(path.unlink)
    config = parse({"BIND": ["127.0.0.1:0"], "PID_FILE": str(path)})

    assert launch(nothing, config, reactor) is ExitCode.OK


def test_process_id_file_that_cannot_be_written_stops_the_start(
    reactor: Reactor, tmp_path: Path
) -> None:
    config = parse({"PID_FILE": str(tmp_path / "no" / "djserve.pid")})

    with pytest.raises(ConfigError, match="PID_FILE"):
        launch(nothing, config, reactor)


def test_access_log_is_opened_anew_by_a_signal(
    reactor: Reactor, stopping: Stopping, tmp_path: Path
) -> None:
    path = tmp_path / "access.log"
    config = parse({"BIND": ["127.0.0.1:0"], "ACCESS_LOG": str(path)})
    stopping(
        lambda: path.rename(tmp_path / "access.log.1"),
        lambda: os.kill(os.getpid(), signal.SIGUSR1),
    )
    launch(nothing, config, reactor)

    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "access.log",
        "access.log.1",
    ]


def test_access_log_that_cannot_be_opened_stops_the_start(
    reactor: Reactor, tmp_path: Path
) -> None:
    config = parse({"ACCESS_LOG": str(tmp_path / "no" / "access.log")})

    with pytest.raises(ConfigError, match="ACCESS_LOG"):
        launch(nothing, config, reactor)


@override_settings(
    ALLOWED_HOSTS=["example.com"],
    CSRF_TRUSTED_ORIGINS=["https://a.example"],
    DEBUG=False,
)
def test_origins_are_those_of_the_project() -> None:
    assert uses_django()
    assert choose_origin_policy(["https://b.example"]) == OriginPolicy(
        ("example.com",), ("https://a.example", "https://b.example"), False
    )


def test_without_django_only_the_setting_restricts_origins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launching, "uses_django", lambda: False)
    origins = ("https://b.example",)

    assert choose_origin_policy(()) is None
    assert choose_origin_policy(origins) == OriginPolicy(None, origins)


def test_loop_of_the_installed_reactor_is_the_current_one(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "take_main_loop", lambda: reactor)
    try:
        assert launching.prepare_loop() is reactor
        assert asyncio.get_event_loop() is reactor.loop
    finally:
        asyncio.set_event_loop(None)


def test_process_id_file_is_not_written_through_a_symbolic_link(
    tmp_path: Path,
) -> None:
    target, link = tmp_path / "target", tmp_path / "pid"
    target.write_text("precious")
    link.symlink_to(target)

    with (
        pytest.raises(ConfigError, match="it is a symbolic link"),
        pid_file(str(link)),
    ):
        pass
    assert target.read_text() == "precious"


@pytest.mark.parametrize("kind", KINDS)
def test_process_id_file_that_is_no_file_stops_the_start(
    kind: str, tmp_path: Path
) -> None:
    path = make_odd_file(tmp_path, kind)

    with (
        pytest.raises(
            ConfigError, match=f"PID_FILE .* cannot be written: {KINDS[kind]}"
        ),
        pid_file(str(path)),
    ):
        pass


def test_process_id_file_loses_what_was_in_it_and_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("12345678901234567890\n")

    with pid_file(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_process_id_file_that_became_a_fifo_does_not_stop_the_end(
    tmp_path: Path,
) -> None:
    path = tmp_path / "pid"

    with pid_file(str(path)):
        path.unlink()
        os.mkfifo(path)
    assert path.is_fifo()


EXIT_WITH_A_BUSY_THREAD = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from djserve.server.launch import exit_within
ThreadPoolExecutor().submit(time.sleep, 600)
print("flushed", end="")
{close}
exit_within(0.1, 3)
"""


@pytest.mark.parametrize("closed", [False, True])
def test_process_is_ended_after_the_timeout(
    closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: queue.Queue[int] = queue.Queue()
    stdout = io.StringIO()
    if closed:
        stdout.close()
    monkeypatch.setattr(os, "_exit", codes.put)
    monkeypatch.setattr(sys, "stdout", stdout)
    exit_within(0.01, 3)

    assert codes.get(timeout=60) == 3


@pytest.mark.parametrize("close", ["", "sys.stdout.close()"], ids=["open", "closed"])
def test_process_ends_though_a_thread_is_busy(close: str) -> None:
    code = EXIT_WITH_A_BUSY_THREAD.format(close=close)
    # The thread takes longer than the process may.
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=300
    )

    assert result.returncode == 3
    assert result.stdout == b"flushed"


TIMEOUT = 120

FORK = """
import os
import sys

from djserve.server.launch import import_websocket_beside

thread = import_websocket_beside(lambda *args: None)
assert thread is not None
child = os.fork()
if not child:
    # The import is over, so that no lock of it is held here.
    import autobahn.websocket.protocol
    os._exit(0 if not thread.is_alive() else 1)
assert os.waitpid(child, 0)[1] == 0
assert "djserve.protocols.websocket.handshake" in sys.modules
"""


def test_thread_is_for_those_who_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import djserve.protocols.websocket.handshake

    assert import_websocket_beside(nothing) is None
    monkeypatch.delitem(sys.modules, djserve.protocols.websocket.handshake.__name__)
    assert import_websocket_beside(refuse_websockets(nothing)) is None


def test_fork_waits_for_the_import() -> None:
    subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK], check=True, timeout=TIMEOUT
    )


END = """
from djserve.server import launch

launch._WEBSOCKET = "lasting"
launch.import_websocket_beside(lambda *args: None)
"""


def test_python_does_not_end_in_the_middle_of_the_import(tmp_path: Path) -> None:
    """What imports at Python's end would wait for the thread's locks for ever."""
    source = 'import time\ntime.sleep(0.5)\nopen("over", "w").close()\n'
    (tmp_path / "lasting.py").write_text(source)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path])}
    subprocess.run(
        [sys.executable, "-c", END], cwd=tmp_path, env=env, check=True, timeout=TIMEOUT
    )

    assert (tmp_path / "over").exists()
