"""What the whole suite shares: profiles, optional programs, servers in processes."""

from __future__ import annotations

import atexit
import gc
import importlib
import logging
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from django.conf import settings as django_settings
from hypothesis import HealthCheck, settings

from djserve.cpus import count_cpus
from tests.support import isolation, parts

if TYPE_CHECKING:
    from djserve.instrumentation.board import Board
    from djserve.net.twisted.reactor import Reactor

ROOT = Path(__file__).resolve().parent.parent

if os.environ.get("DJSERVE_REQUIRE_ALL") != "1" and find_spec("aioquic") is None:
    # The extra http3 is optional; in CI these fail without it.
    collect_ignore_glob = [
        "net/quic",
        "protocols/http3",
        "server/test_quic.py",
        "e2e/test_http3*.py",
        "benchmarks/test_http3.py",
    ]

# A shared machine makes single examples slow by chance: no deadlines anywhere.
settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile(
    "ci",
    deadline=None,
    max_examples=150,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
# For ``make unit``; all other runs try more.
settings.register_profile("unit", deadline=None, max_examples=20)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def _is_not_about_time(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Executing %s took")


def pytest_configure(config: pytest.Config) -> None:
    """Leave the demo's tasks out, here and in processes that tests start.

    The suite runs with the demo's settings; what is about its tasks asks for them.
    """
    if config.option.markexpr == "not e2e" and not os.environ.get("CI"):
        settings.load_profile("unit")
    os.environ.setdefault("DEMO_TASKS", "0")
    django_settings.DEMO_TASKS = False
    django_settings.DJSERVE.pop("PROCESSES", None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Answer ``-n auto``: two processes for each processor, or none for one file."""
    most = 2 * count_cpus()
    files = {argument.partition("::")[0] for argument in config.args}
    if all(map(os.path.isfile, files)):
        return min(len(files), most) if len(files) > 1 else 0
    return most


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list[Any]) -> None:
    """Pass Python's development mode on to the processes of a parallel run."""
    if sys.flags.dev_mode:
        for spec in specs:
            spec.python = f"{sys.executable} -X dev"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what this process of ``make unit`` need not read."""
    if config.option.markexpr != "not e2e" or collection_path.is_dir():
        return None
    return parts.is_left_out(collection_path) or None


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Keep the garbage collector of ``make unit`` from what stays to the end.

    Modules and ten thousand tests: it took an eighth of the time to look at them.
    """
    if session.config.option.markexpr != "not e2e":
        return (yield)
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Let a parallel run begin with the files that take longest: those that wait.

    Its processes must agree on the tests' names: an address in one is an error.
    """
    if named := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"Give this test a name (ids=): {named[0]}")
    if hasattr(config, "workerinput"):
        waiting = {item.path for item in items if item.get_closest_marker("e2e")}
        items.sort(key=lambda item: item.path not in waiting)


# In debug mode asyncio warns of every callback that the machine made slow.
logging.getLogger("asyncio").addFilter(_is_not_about_time)


@pytest.fixture(autouse=True)
def _stays_in_this_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test without the marker ``e2e`` that connects or starts a process.

    Only in ``make unit`` in other threads too: in a whole run these may be of others.
    """
    if request.node.get_closest_marker("e2e"):
        yield
        return
    in_unit = request.config.option.markexpr == "not e2e"
    with isolation.watching(in_new_threads=in_unit) as found:
        yield
    if found:
        pytest.fail(f"Mark it with e2e: it causes {', '.join(sorted(set(found)))}")


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    """A reactor that nobody else runs on."""
    from djserve.net.twisted.reactor import Reactor

    reactor = Reactor()
    yield reactor
    reactor.dispose()


@pytest.fixture
def board() -> Iterator[Board]:
    """A board without figures."""
    from djserve.instrumentation.board import Board

    board = Board()
    yield board
    board.close()


@pytest.fixture
def _without_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have imports fail as if Channels, an extra of the package, were missing."""

    class Missing:
        def find_spec(self, name: str, *rest: object) -> None:
            if name.partition(".")[0] == "channels":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in [name for name in sys.modules if name.partition(".")[0] == "channels"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])


@pytest.fixture(scope="session")
def require_program() -> Callable[..., str]:
    """Give ``require_program(name, env="")``: the path of a program that a test needs.

    ``env`` names an environment variable that overrides the search. A missing program
    skips the test, or fails it where DJSERVE_REQUIRE_ALL=1 (as in CI).
    """
    return find_program


def find_program(name: str, env: str = "") -> str:
    path = os.environ.get(env) or shutil.which(name)
    if path:
        return path
    _do_without(f"{name} is not installed")


def find_package(name: str) -> Any:
    """Return a package's module, or do as ``require_program`` does without one."""
    try:
        return importlib.import_module(name)
    except ImportError:
        pass
    if os.environ.get("DJSERVE_REQUIRE_ALL") == "1":
        pytest.fail(f"{name} is not installed, and DJSERVE_REQUIRE_ALL=1 demands it")
    pytest.skip(f"{name} is not installed", allow_module_level=True)


@pytest.fixture
def require_ipv6() -> None:
    """Skip a test on a machine without IPv6, or fail it as ``require_program`` does."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        _do_without("IPv6 is not available")


def _do_without(reason: str) -> NoReturn:
    if os.environ.get("DJSERVE_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason}, and DJSERVE_REQUIRE_ALL=1 demands it")
    pytest.skip(reason)


# Below those that the kernel gives to outgoing connections and to sockets bound to port
# 0, so that no other program takes such a port by chance before its server does. Each
# process of each run claims one share of them at a time, for several may run at once.
# The last port that browsers refuse to open is 10080.
_PORT_SHARES = [range(start, start + 200) for start in range(10_200, 32_000, 200)]
_ports: list[int] = []


def _claim_ports() -> list[int]:
    """Claim a share by its first port, for as long as this process lives."""
    for share in _PORT_SHARES:
        claim = socket.socket()
        try:
            claim.bind(("127.0.0.1", share[0]))
        except OSError:
            claim.close()
            continue
        atexit.register(claim.close)
        # Not by the module's generator, which has the same seed in all processes.
        return random.SystemRandom().sample(share[1:], len(share) - 1)
    raise RuntimeError("More runs of the tests at once than there are shares of ports")


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 that had no listener a moment ago."""
    return find_free_port()


def find_free_port() -> int:
    """Return a port that this process has not been given before."""
    while True:
        if not _ports:
            _ports.extend(_claim_ports())
        port = _ports.pop()
        if _can_bind(port):
            return port


def _can_bind(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDAwMDAwMDAwMDAwMDAwMA==\r\n\r\n"
)


@dataclass
class ServerProcess:
    """A server in a process of its own, with all that it prints in a file."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until_ready(self, timeout: float) -> None:
        """Return once the port takes connections; fail with the output otherwise."""
        deadline = time.monotonic() + timeout
        while not self._accepts():
            if self.process.poll() is not None:
                pytest.fail(
                    f"Server ended with {self.process.returncode}:\n{self.output}"
                )
            if time.monotonic() > deadline:
                pytest.fail(f"Server did not listen in {timeout} s:\n{self.output}")
            time.sleep(0.05)

    def wait_for(self, text: str, count: int = 1) -> None:
        """Return once the text is so often in the output; fail with it otherwise."""
        deadline = time.monotonic() + 120
        while self.output.count(text) < count:
            if time.monotonic() > deadline:
                pytest.fail(f"{text!r} is missing in:\n{self.output}")
            time.sleep(0.01)

    def stop(self, timeout: float = 120) -> int:
        """Ask for a clean stop and return the exit code; kill a server that hangs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"Server did not stop in {timeout} s:\n{self.output}")

    def finish_imports(self, *, tls: bool = False) -> None:
        """Return once nothing is left that the server imports later by itself.

        That is WebSocket, which is not to count as what a test's clients take.
        """
        sock = socket.create_connection(("127.0.0.1", self.port), 120)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            sock = context.wrap_socket(sock)
        with sock:
            sock.sendall(HANDSHAKE)
            assert sock.recv(1)

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 60).close()
        except OSError:
            return False
        return True


def processor_seconds(pid: int) -> float:
    """Return the seconds of processor time that a process has used so far.

    What a server spends before it serves somebody, however busy the machine is.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


StartServer = Callable[..., ServerProcess]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Give ``start_server(*args, port, python=, env=, cwd=)`` for a real server.

    ``args`` follow the Python interpreter: ``start_server("-m", "djserve", "app:app",
    "--bind", f"127.0.0.1:{free_port}", port=free_port)``. It returns once the port is
    open. Servers that still run at the test's end are stopped.
    """
    with server_starter(tmp_path) as start:
        yield start


@contextmanager
def server_starter(folder: Path) -> Iterator[StartServer]:
    """Give what ``start_server`` gives, with the logs in a folder, for the block."""
    started: list[ServerProcess] = []

    def start(
        *args: str,
        port: int,
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        timeout: float = 120,
    ) -> ServerProcess:
        log = folder / f"server-{len(started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [python, *args],
                cwd=cwd,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        started.append(ServerProcess(process, port, log))
        started[-1].wait_until_ready(timeout)
        return started[-1]

    try:
        yield start
    finally:
        for server in started:
            server.stop()
