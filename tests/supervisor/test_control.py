"""A control server at a real socket, asked by clients in other threads."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from djserve.errors import ListenError
from djserve.net.channel import GUEST_LIMIT
from djserve.net.control import ask
from djserve.supervisor import reports
from djserve.supervisor.control import GUESTS, ControlServer
from tests.support.descriptors import open_descriptors

pytestmark = pytest.mark.e2e

MakeCrew = Callable[..., Any]


class Office:
    """A control server for a fleet, and the loop that its supervisor would run."""

    def __init__(self, crew: Any, path: str) -> None:
        self.crew = crew
        self.path = path
        self.orders: list[str] = []
        self.is_stopping = False
        self.control = ControlServer(
            path,
            crew.fleet,
            crew.watcher,
            reload=self.reload,
            drain=lambda: self.orders.append("drain"),
        )

    def reload(self) -> int | None:
        self.orders.append("reload")
        return None if self.is_stopping else len(self.orders)

    def turn(self) -> None:
        self.crew.watcher.run(0.02)
        self.control.turn()

    def ask(self, **request: object) -> Any:
        """Return the answer to one request."""
        answers: list[object] = []
        client = threading.Thread(
            target=lambda: answers.append(ask(self.path, request, 60))
        )
        client.start()
        while client.is_alive():
            self.turn()
        return answers[0]

    def send_raw(self, data: bytes) -> bytes:
        """Send bytes and return what comes back until the server hangs up."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(self.path)
            sock.sendall(data)
            sock.settimeout(0.01)
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                self.turn()
                try:
                    return sock.recv(65536)
                except TimeoutError:
                    continue
        pytest.fail("neither an answer nor an end")


@pytest.fixture
def office(make_crew: MakeCrew, tmp_path: Path) -> Iterator[Office]:
    """The control of a fleet without processes."""
    office = Office(make_crew(2), str(tmp_path / "control"))
    yield office
    office.control.close()


def test_status_is_that_of_the_fleet(office: Office) -> None:
    answer = office.ask(command="status")

    assert answer["supervisor"] == os.getpid()
    assert answer["target"] == 2


@pytest.mark.parametrize("command", ["reload", "drain"])
def test_order_is_carried_out(office: Office, command: str) -> None:
    assert office.ask(command=command)["ok"]
    assert office.orders == [command]


def test_server_that_stops_refuses_orders(office: Office) -> None:
    office.is_stopping = office.crew.fleet.is_stopping = True
    refusal = {"error": "the server is stopping"}

    assert office.ask(command="reload") == refusal
    assert office.ask(command="scale", workers=5) == refusal


def test_number_of_workers_is_changed(office: Office) -> None:
    assert office.ask(command="scale", workers=5) == {"ok": True}
    assert office.crew.fleet.target == 5


@pytest.mark.parametrize("process", [None, "tasks"])
def test_number_of_processes_has_a_bound(office: Office, process: str | None) -> None:
    answer = office.ask(command="scale", workers=100_000, process=process)

    assert answer == {"error": "expected at most 1024, got 100000"}
    assert office.crew.fleet.target == 2


@pytest.mark.parametrize(
    "request_",
    [{"command": "dance"}, {"command": "scale", "workers": "5"}, {}],
)
def test_what_is_not_understood_is_refused(
    office: Office, request_: dict[str, object]
) -> None:
    assert office.ask(**request_)["error"].startswith("unknown command")
    assert office.crew.fleet.target == 2


@pytest.mark.parametrize(
    "data", [b"no JSON\n", b"\xff\n", b"[" * 100_000 + b"\n", b"5\n", b'["status"]\n']
)
def test_guest_that_sends_no_request_is_shown_out(office: Office, data: bytes) -> None:
    assert office.send_raw(data) == b""
    assert office.ask(command="reload") == {"ok": True, "attempt": 1}


def test_guest_that_leaves_at_once_disturbs_nobody(office: Office) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(office.path)
    office.turn()

    assert office.ask(command="reload") == {"ok": True, "attempt": 1}


def open_guest(office: Office) -> socket.socket:
    """Return a connection that the server has accepted."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(office.path)
    office.turn()
    return sock


def test_oldest_of_many_guests_makes_room(office: Office) -> None:
    guests = [open_guest(office) for _ in range(GUESTS + 2)]
    try:
        ends = []
        for guest in guests:
            guest.setblocking(False)
            try:
                ends.append(guest.recv(1) == b"")
            except BlockingIOError:
                ends.append(False)
        assert ends == [True, True] + [False] * GUESTS
    finally:
        for guest in guests:
            guest.close()
    assert office.ask(command="reload") == {"ok": True, "attempt": 1}


def test_guest_whose_request_has_no_end_is_shown_out(office: Office) -> None:
    with open_guest(office) as guest:
        guest.settimeout(0.01)
        sent = 0
        with pytest.raises(OSError, match=r"Broken pipe|Connection reset"):
            while sent < 100 * GUEST_LIMIT:
                try:
                    sent += guest.send(b"x" * 65536)
                except TimeoutError:
                    office.turn()

    assert sent < 3 * GUEST_LIMIT
    assert office.ask(command="reload") == {"ok": True, "attempt": 1}


def test_guest_that_reads_no_answers_is_shown_out(office: Office) -> None:
    request = b'{"command": "%s"}\n' % (b"x" * 60_000)
    with open_guest(office) as guest:
        guest.settimeout(0.01)
        sent = 0
        with pytest.raises(OSError, match=r"Broken pipe|Connection reset"):
            while sent < 100 * GUEST_LIMIT:
                try:
                    sent += guest.send(request)
                except TimeoutError:
                    office.turn()

    assert office.ask(command="reload") == {"ok": True, "attempt": 1}


def test_descriptors_of_a_guest_are_not_taken(office: Office) -> None:
    with open_guest(office) as guest:
        before = open_descriptors()
        with open(os.devnull) as file:
            socket.send_fds(guest, [b"{"], [file.fileno()] * 5)
            office.turn()
        assert open_descriptors() <= before


def test_closed_desk_removes_its_file_and_hangs_up(office: Office) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(office.path)
        office.turn()
        office.control.close()

        assert sock.recv(1) == b""
    assert not Path(office.path).exists()


@pytest.mark.e2e
def test_status_tells_what_real_workers_are_doing(
    make_crew: MakeCrew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "REPORT_TIMEOUT", 120.0)
    path = str(tmp_path / "control")
    crew = make_crew(1, CONTROL_SOCKET=path).start()
    office = Office(crew, path)
    answer = office.ask(command="status")
    office.control.close()

    (worker,) = answer["workers"]
    assert worker["process"] in crew.ids()
    assert worker["calls"] == []


def test_path_that_is_no_socket_is_refused_by_its_setting(
    make_crew: MakeCrew, tmp_path: Path
) -> None:
    path = tmp_path / "control"
    os.mkfifo(path)

    with pytest.raises(ListenError, match=r"\(CONTROL_SOCKET\): the path exists"):
        Office(make_crew(2), str(path))
