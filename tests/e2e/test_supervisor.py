"""The supervisor as an operator sees it: processes, signals, files, exit codes."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.open_python import start_for
from tests.e2e.workers import DEADLINE, start_workers, wait_for
from tests.support.waiting import can_connect

pytestmark = pytest.mark.e2e

APPLICATION = """
import asyncio, os

async def application(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("HTTP only")
    if scope["path"] == "/block":
        open("gate").close()  # a FIFO: until somebody writes to it
    if scope["path"] == "/hold":
        open("begun", "w").close()
        while not os.path.exists("released"):
            await asyncio.sleep(0.01)
    body = b"%d %d" % (os.getpid(), os.getuid())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""

StartServer = Callable[..., Any]
Start = Callable[..., Any]


@pytest.fixture
def start(start_server: StartServer, tmp_path: Path, free_port: int) -> Start:
    """Give ``start(*options)``: two workers that serve APPLICATION."""
    (tmp_path / "app.py").write_text(APPLICATION)
    return partial(start_workers, start_server, tmp_path, free_port)


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=DEADLINE) as response:
        text: str = response.read().decode()
    return text


def workers_of(server: Any) -> list[int]:
    """Return the process ids of the workers that were ready, in their order."""
    return list(map(int, re.findall(r"process (\d+)\) is ready", server.output)))


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started or forked, oldest first."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return list(map(int, text.split()))


def test_two_workers_answer_and_a_signal_ends_all(start: Start) -> None:
    server = start()
    first, second = workers_of(server)

    assert int(get(server.url).split()[0]) in (first, second)
    assert server.stop() == 0
    assert not is_running(first)
    assert not is_running(second)


def test_start_is_told_in_single_lines(start: Start) -> None:
    server = start()

    assert f"Listening on http://127.0.0.1:{server.port}/" in server.output
    assert f"Supervisor {server.process.pid}, 2 workers" in server.output


def test_process_id_file_holds_the_supervisor(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    server = start("--pid-file", str(path))

    assert int(path.read_text()) == server.process.pid
    server.stop()
    assert not path.exists()


def test_worker_killed_is_replaced(start: Start) -> None:
    server = start()
    os.kill(workers_of(server)[0], signal.SIGKILL)
    wait_for(lambda: len(workers_of(server)) == 3)

    assert "was ended by SIGKILL unexpectedly" in server.output


def test_signals_change_the_number_of_workers(start: Start) -> None:
    server = start()
    server.process.send_signal(signal.SIGTTIN)
    wait_for(lambda: len(workers_of(server)) == 3)
    server.process.send_signal(signal.SIGTTOU)
    server.wait_for("has ended")

    assert "The number of workers is now 2" in server.output


def test_end_of_the_supervisor_ends_its_workers(start: Start) -> None:
    server = start()
    pids = workers_of(server)
    server.process.kill()
    server.process.wait()
    wait_for(lambda: not any(map(is_running, pids)))


def test_blocked_worker_is_named_with_its_stack_and_replaced(
    start: Start, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "gate")
    server = start("--worker-block-warning", "0.5", "--worker-hang-timeout", "2.5")
    with pytest.raises((OSError, urllib.error.URLError)):
        get(f"{server.url}/block")
    wait_for(lambda: len(workers_of(server)) >= 3)

    warning = re.search(r"has been blocked for ([\d.]+) seconds; stacks", server.output)
    assert warning is not None
    assert float(warning[1]) >= 0.5
    assert 'app.py", line 8 in application' in server.output
    told = server.output.index("is replaced: it was blocked for 2.5 seconds")
    assert warning.start() < told


def test_loop_that_runs_on_is_not_replaced(start: Start, tmp_path: Path) -> None:
    server = start("--worker-block-warning", "0.5", "--worker-hang-timeout", "600")
    before = workers_of(server)
    os.mkfifo(tmp_path / "gate")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(get, f"{server.url}/block")
        server.wait_for('app.py", line 8 in application')
        (tmp_path / "gate").open("w").close()

        assert int(answer.result().split()[0]) in before
    server.wait_for("the event loop ran on after")
    assert float(re.findall(r"ran on after ([\d.]+)", server.output)[0]) >= 0.5
    assert workers_of(server) == before


def test_request_under_way_is_finished_at_the_end(start: Start, tmp_path: Path) -> None:
    server = start()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for((tmp_path / "begun").exists)
        server.process.terminate()
        server.wait_for("1 application calls have")
        (tmp_path / "released").touch()
        client.settimeout(DEADLINE)
        answer = client.recv(65536)

    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer.lower()
    assert server.process.wait(120) == 0


def test_second_signal_does_not_wait_for_requests(start: Start, tmp_path: Path) -> None:
    server = start("--shutdown-timeout", "600")
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for((tmp_path / "begun").exists)
        server.process.terminate()
        server.wait_for("1 application calls have")
        server.process.terminate()

        assert server.process.wait(120) == 0


def test_sockets_of_the_service_manager_are_used(
    start: Start, free_port: int, tmp_path: Path
) -> None:
    sitter = (
        "import os, socket, sys\n"
        f"s = socket.create_server(('127.0.0.1', {free_port}))\n"
        "os.dup2(s.fileno(), 3)\n"
        "os.set_inheritable(3, True)\n"
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'djserve', "
        "'app:application', '--workers', '2'])\n"
    )
    (tmp_path / "app.py").write_text(APPLICATION)
    env = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    process = subprocess.Popen([sys.executable, "-c", sitter], cwd=tmp_path, env=env)
    try:
        wait_for(lambda: can_connect(free_port))
        assert get(f"http://127.0.0.1:{free_port}/")
    finally:
        process.terminate()
        assert process.wait(120) == 0


@pytest.mark.parametrize("options", [(), ("--workers", "1")], ids=["two", "one"])
def test_service_manager_is_told_each_step(
    start: Start, tmp_path: Path, options: tuple[str, ...]
) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(DEADLINE)
        server = start(*options, env={"NOTIFY_SOCKET": path})
        assert manager.recv(1000).startswith(b"READY=1\n")
        server.process.send_signal(signal.SIGHUP)
        assert manager.recv(1000).startswith(b"RELOADING=1\n")
        assert manager.recv(1000).startswith(b"READY=1\n")
        server.process.terminate()
        assert manager.recv(1000).startswith(b"STOPPING=1\n")


@pytest.mark.parametrize("count", ["3", "1"])
def test_number_of_workers_says_where_it_comes_from(
    start_server: StartServer, tmp_path: Path, free_port: int, count: str
) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    words = ["-m", "djserve", "app:application", "--bind", f"127.0.0.1:{free_port}"]
    environ = {"DJANGO_SETTINGS_MODULE": "", "WEB_CONCURRENCY": "auto"}
    environ["PYTHON_CPU_COUNT"] = count
    server = start_server(*words, port=free_port, cwd=tmp_path, env=environ)
    server.wait_for(f"(auto: PYTHON_CPU_COUNT={count})")

    if count == "1":
        assert "One process serves" in server.output
    else:
        assert len(workers_of(server)) == int(count)


def test_successor_takes_the_sockets_over(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    server = start("--pid-file", str(path))
    server.process.send_signal(signal.SIGUSR2)
    assert server.process.wait(120) == 0
    successor = int(path.read_text())
    try:
        assert successor != server.process.pid
        assert get(server.url)
    finally:
        os.kill(successor, signal.SIGTERM)
    wait_for(lambda: not is_running(successor))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
def test_workers_run_as_another_user(
    start_server: StartServer, open_folder: Path, free_port: int
) -> None:
    (open_folder / "app.py").write_text(APPLICATION)
    server = start_for("nobody", start_server, open_folder, free_port)
    nobody = pwd.getpwnam("nobody")

    assert int(get(server.url).split()[1]) == nobody.pw_uid != os.geteuid()
    for pid in workers_of(server):
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(rf"^Uid:(\s+{nobody.pw_uid}){{4}}$", status, re.M)


def test_log_files_are_opened_anew(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    server = start("--access-log", str(path), "--access-log-format", "json")
    get(server.url)
    wait_for(lambda: path.read_text())
    path.rename(tmp_path / "access.log.1")
    server.process.send_signal(signal.SIGUSR1)
    wait_for(path.exists)
    # One worker has it open by now; the other may still write into the old one.
    wait_for(lambda: get(server.url) and path.read_text())

    assert json.loads(path.read_text().splitlines()[0])["status"] == 200


def test_address_in_use_ends_with_code_1(start: Start, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        env = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
        words = ["-m", "djserve", "os:listdir", "-w", "2", "-p", str(free_port)]
        ended = subprocess.run(
            [sys.executable, *words], env=env, capture_output=True, timeout=300
        )

    assert ended.returncode == 1
    assert b"the address is in use" in ended.stderr


def test_application_that_cannot_be_imported_ends_with_code_2(free_port: int) -> None:
    env = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    words = ["-m", "djserve", "no_such_app:x", "-w", "2", "-p", str(free_port)]
    ended = subprocess.run(
        [sys.executable, *words], env=env, capture_output=True, timeout=300
    )

    assert ended.returncode == 2
    assert b"There is no module 'no_such_app'" in ended.stderr


@pytest.mark.parametrize("step", ["loading", "blocked", "stopped"])
def test_nothing_survives_a_supervisor_that_is_killed(
    start: Start, tmp_path: Path, step: str
) -> None:
    timeouts = ("--shutdown-timeout", "1", "--lifespan-timeout", "1")
    limits = ("--worker-block-warning", "0.5", "--worker-hang-timeout", "600")
    server = start(*timeouts, *limits)
    supervisor = server.process.pid
    (loader,) = children_of(supervisor)
    family = {loader, *children_of(loader)}
    if step == "loading":
        (tmp_path / "app.py").write_text("import time\ntime.sleep(600)\n")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(children_of(supervisor)) == 2)
        family.update(children_of(supervisor))
    elif step == "stopped":
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
    else:
        os.mkfifo(tmp_path / "gate")
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_for('app.py", line 8 in application')
        client.close()
    server.process.kill()
    server.process.wait()

    wait_for(lambda: not any(map(is_running, family)))
