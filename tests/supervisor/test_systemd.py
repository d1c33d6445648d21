"""Socket activation and notifications, by a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from djserve.conf.parser import parse
from djserve.conf.schema import BindConfig, RedirectConfig
from djserve.supervisor.systemd import Notifier, adopt_activation

pytestmark = pytest.mark.e2e


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end, at tmp_path/notify."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60)
        yield sock


def notifier_for(manager: socket.socket, **variables: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.getsockname(), **variables})


def test_readiness_tells_the_main_process(manager: socket.socket) -> None:
    notifier_for(manager).ready("2 workers")

    assert manager.recv(1000).decode().splitlines() == [
        "READY=1",
        f"MAINPID={os.getpid()}",
        "STATUS=2 workers",
    ]


def test_reload_tells_its_time(manager: socket.socket) -> None:
    notifier_for(manager).reloading()
    lines = manager.recv(1000).decode().splitlines()

    assert lines[0] == "RELOADING=1"
    assert lines[1].removeprefix("MONOTONIC_USEC=").isdigit()


def test_stop_is_told(manager: socket.socket) -> None:
    notifier_for(manager).stopping()

    assert manager.recv(1000).startswith(b"STOPPING=1\n")


def test_watchdog_is_fed_at_half_of_its_interval(manager: socket.socket) -> None:
    notifier = notifier_for(manager, WATCHDOG_USEC="2000000")
    for now in (100.0, 100.5, 101.0):
        notifier.alive(now)

    assert manager.recv(100) == manager.recv(100) == b"WATCHDOG=1"
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_watchdog_of_another_process_is_left_alone(manager: socket.socket) -> None:
    notifier_for(manager, WATCHDOG_USEC="2000000", WATCHDOG_PID="1").alive(0)
    manager.setblocking(False)

    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_without_a_manager_nothing_happens() -> None:
    notifier = Notifier({})
    notifier.ready("1 worker")

    assert notifier.environment() == {}


def test_successor_gets_the_managers_address(manager: socket.socket) -> None:
    path = manager.getsockname()

    assert notifier_for(manager).environment() == {"NOTIFY_SOCKET": path}


def test_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).stopping()


def test_activated_sockets_replace_the_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[tuple[int, bool]] = []
    monkeypatch.setattr(os, "set_inheritable", lambda *args: made.append(args))
    environ = {"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid())}
    adopted = adopt_activation(BindConfig(), RedirectConfig(), environ)

    assert adopted.bind == ("fd://3", "fd://4")
    assert made == [(3, False), (4, False)]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "0", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())},
    ],
    ids=["none", "another process", "no socket", "no number"],
)
def test_without_activation_the_addresses_stay(environ: dict[str, str]) -> None:
    given = BindConfig()

    assert adopt_activation(given, RedirectConfig(), environ) is given


def test_activated_socket_can_be_one_that_redirects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "set_inheritable", lambda *args: None)
    environ = {"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid())}
    given = {"CERTFILE": __file__, "REDIRECT_HTTP": ["fd://4", "127.0.0.1:80"]}
    config = parse(given)
    adopted = adopt_activation(config.bind, config.redirect, environ)

    assert adopted.bind == ("fd://3",)
